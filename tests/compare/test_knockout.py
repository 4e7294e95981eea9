import pytest
import torch
from torch.testing import assert_close

from recbole_mm.compare.knockout import knocked_out, knockouts
from recbole_mm.config.load import load_config
from recbole_mm.model.layers.time import in_other_order
from recbole_mm.run.run import Run

SMALL = {"hidden_size": 16, "head_dim": 8, "d_state": 4, "n_groups": 2, "inner_size": 16}


def model_and_batch(name, toy, **settings):
    run = Run(load_config(name, None, (), {**toy, **SMALL, "n_heads": 2, **settings}))
    model = run.trainer.model.eval()
    model.on_epoch_start(0)
    return model, next(iter(run.splits.test))[0]


@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec"])
def test_without_a_modality_its_features_do_not_matter(name, toy):
    model, batch = model_and_batch(name, toy)
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        text_only = knocked_out(model, "text only").full_sort_predict(batch)
        assert torch.equal(model.full_sort_predict(batch), before)  # the model itself stays
        model.feature("image").copy_(torch.randn_like(model.feature("image")))
        other_images = knocked_out(model, "text only").full_sort_predict(batch)

    assert not torch.allclose(text_only, before)
    assert_close(text_only, other_images)


@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec"])
def test_mixed_up_features_score_as_those_of_other_items(name, toy):
    model, batch = model_and_batch(name, toy, use_item_id=False)
    source = torch.tensor([0, *range(2, model.n_items), 1])
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        shuffled = knocked_out(model, "shuffled")
        assert not torch.allclose(shuffled.full_sort_predict(batch), before)
        model.permute_features(source)
        batch["item_id_list"] = torch.where(  # the same features at other ids
            batch["item_id_list"] > 0, (batch["item_id_list"] - 2) % (model.n_items - 1) + 1, 0
        )
        again = model.full_sort_predict(batch)

    assert_close(again, before[:, source], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("time_input", ["log_intervals", "padded_differences"])
def test_shuffled_times_score_as_another_order_of_the_intervals(time_input, toy):
    model, batch = model_and_batch("MMM4Rec", toy, use_time=True, time_input=time_input)
    with torch.no_grad():  # the layers start as the identity: times would not matter
        for name, parameter in model.named_parameters():
            if "time" in name:
                parameter.normal_()
        day, length = 86_400, batch["item_length"]
        steps = torch.arange(batch["timestamp_list"].shape[1]) ** 2 + 1.0
        batch["timestamp_list"] = torch.where(
            torch.arange(len(steps)) < length[:, None], 1.4e9 + day * steps.cumsum(0), 0
        )
        before = model.full_sort_predict(batch)
        shuffled = knocked_out(model, "times shuffled").full_sort_predict(batch)
        assert_close(model.full_sort_predict(batch), before)  # the model itself stays

    assert not torch.allclose(shuffled, before)


def test_another_order_of_the_first_values():
    values = torch.arange(1.0, 31).repeat(5, 1)
    lengths = torch.tensor([30, 12, 12, 1, 0])

    mixed = in_other_order(values, lengths)

    for row, length in zip(mixed, lengths.tolist(), strict=True):
        assert sorted(row[:length].tolist()) == values[0, :length].tolist()
        assert torch.equal(row[length:], values[0, length:])
    assert torch.equal(mixed[1], mixed[2])


def test_every_value_of_every_length_changes_its_place():
    values = torch.arange(20.0).repeat(21, 1)

    mixed = in_other_order(values, torch.arange(21))

    for length in range(2, 21):
        assert (mixed[length, :length] != values[length, :length]).all()


@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec", "UniSRec"])
@pytest.mark.parametrize("what", ["text only", "shuffled"])
def test_only_what_differs_takes_memory(name, what, toy):
    model, batch = model_and_batch(name, toy)
    state = {key: value.clone() for key, value in model.named_buffers()}

    changed = knocked_out(model, what)
    with torch.no_grad():
        changed.full_sort_predict(batch)

    own = {
        key
        for (key, ours), (_, theirs) in zip(
            [*model.named_parameters(), *model.named_buffers()],
            [*changed.named_parameters(), *changed.named_buffers()],
            strict=True,
        )
        if ours.data_ptr() != theirs.data_ptr()
    }
    changes = ("_feature", "_present", "interests.lookup", "interests.present")
    assert own and all(key.endswith(changes) for key in own)
    assert all(torch.equal(value, state[key]) for key, value in model.named_buffers())


def test_what_can_be_knocked_out(toy):
    model, _ = model_and_batch("MMM4Rec", toy)
    single, _ = model_and_batch("MMM4Rec", toy, modalities=["text"])

    assert knockouts(model) == ["text only", "image only", "shuffled"]
    assert knockouts(single) == ["shuffled"]
    timed, _ = model_and_batch("MMM4Rec", toy, use_time=True)
    assert knockouts(timed) == ["text only", "image only", "shuffled", "times shuffled"]
    assert knockouts(torch.nn.Linear(1, 1)) == []


def test_a_modality_that_the_model_does_not_have_is_refused(toy):
    model, _ = model_and_batch("MMM4Rec", toy)
    with pytest.raises(ValueError, match=r"no modality \['audio'\]; the model has"):
        model.keep_modalities(["audio"])


def test_a_model_on_ids_alone_has_nothing_to_remove(toy):
    model, _ = model_and_batch("SASRecPlus", toy, modalities=[])

    assert knockouts(model) == []
