import pytest
import torch
from torch.testing import assert_close

from recbole_mm.compare.knockout import knocked_out, knockouts
from recbole_mm.config.load import load_config
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
    assert own and all(key.endswith(("_feature", "_present", "interests.lookup")) for key in own)
    assert all(torch.equal(value, state[key]) for key, value in model.named_buffers())


def test_what_can_be_knocked_out(toy):
    model, _ = model_and_batch("MMM4Rec", toy)
    single, _ = model_and_batch("MMM4Rec", toy, modalities=["text"])

    assert knockouts(model) == ["text only", "image only", "shuffled"]
    assert knockouts(single) == ["shuffled"]
    assert knockouts(torch.nn.Linear(1, 1)) == []


def test_a_modality_that_the_model_does_not_have_is_refused(toy):
    model, _ = model_and_batch("MMM4Rec", toy)
    with pytest.raises(ValueError, match=r"no modality \['audio'\]; the model has"):
        model.keep_modalities(["audio"])


def test_a_model_on_ids_alone_has_nothing_to_remove(toy):
    model, _ = model_and_batch("SASRecPlus", toy, modalities=[])

    assert knockouts(model) == []
