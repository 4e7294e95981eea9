"""Items that are added to a trained model, whatever its paper."""

import pytest
import torch
from test_contract import SMALL, prepare
from torch.testing import assert_close

from recbole_mm.model.layers.item_rows import tables_of_items

SETTINGS = [
    {"use_item_id": False},
    {"use_item_id": True},
    {"use_item_id": True, "held_out_items": 0.2},
    {"use_item_id": False, "item_mm_fusion": "dynamic_instance"},
    {"use_item_id": True, "mask_missing": False},
]
NAMES = ["without-id", "with-id", "untrained", "factors", "unmasked"]
MODALITIES = ["text", "image"]
NEW = ["x", "y"]


@pytest.fixture
def model_and_batch(toy):
    def make(name, settings):
        settings = {k: v for k, v in settings.items() if k in KEYS[name]}
        _, model, (*_, test) = prepare(name, toy, modalities=MODALITIES, **settings)
        with torch.no_grad():
            for parameter in model.parameters():  # also those that start at zero
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.on_epoch_start(0)
        return model.eval(), next(iter(test))[0]

    return make


KEYS = {name: {"use_item_id", "held_out_items", "mask_missing"} for name in SMALL}
KEYS["MISSRec"] |= {"item_mm_fusion"}
KEYS["MMM4Rec"] |= {"item_mm_fusion"}
for name in ("HSTU", "SASRecPlus", "UniSRec"):
    KEYS[name] -= {"mask_missing"}


def features_of(model, item_id):
    return {m: (model.feature(m)[item_id], model.present(m)[item_id]) for m in model.modalities}


@pytest.mark.parametrize("settings", SETTINGS, ids=NAMES)
@pytest.mark.parametrize("name", SMALL)
def test_scores_of_the_items_before_stay(name, settings, model_and_batch):
    model, batch = model_and_batch(name, settings)
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        model.append_items(["x", "y", "z"], features_of(model, torch.tensor([3, 5, 7])))
        after = model.full_sort_predict(batch)

    assert after.shape == (len(batch), model.n_items) == (before.shape[0], before.shape[1] + 3)
    assert torch.isfinite(after[:, 1:]).all()
    if settings.get("held_out_items"):  # the ID table had untrained rows, and they count as before
        assert_close(after[:, : before.shape[1]], before)
    else:
        assert_close(after[:, 1 : before.shape[1]], before[:, 1:])


@pytest.mark.parametrize("name", SMALL)
def test_without_an_id_a_new_item_is_the_old_one_with_its_features(name, model_and_batch):
    model, batch = model_and_batch(name, {"use_item_id": False})
    model.append_items(NEW, features_of(model, torch.tensor([4, 9])))
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        history = batch["item_id_list"].clone()
        history[history == 4], history[history == 9] = model.n_items - 2, model.n_items - 1
        assert not torch.equal(history, batch["item_id_list"])
        batch.interaction["item_id_list"] = history
        with_new_items = model.full_sort_predict(batch)

    assert_close(scores[:, -2:], scores[:, [4, 9]])
    assert_close(with_new_items, scores, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_features_of_new_items_are_transformed_as_those_of_the_training(name, toy):
    settings = {"use_item_id": False, "modalities": MODALITIES, "feature_transform": "whiten"}
    _, model, _ = prepare(name, toy, **settings)
    mean = model.item_table.transforms["text"].mean.clone()
    raw = {
        m: (getattr(model.item_table, f"{m}_raw")[[4, 9]], model.present(m)[[4, 9]])
        for m in MODALITIES
    }

    model.append_items(NEW, raw)

    for modality in MODALITIES:
        assert_close(model.feature(modality)[-2:], model.feature(modality)[[4, 9]])
    assert torch.equal(model.item_table.transforms["text"].mean, mean)
    model.load_state_dict(model.state_dict())  # which projects them again
    assert_close(model.feature("image")[-2:], model.feature("image")[[4, 9]])


@pytest.mark.parametrize("name", SMALL)
def test_with_ids_a_new_item_is_an_untrained_one(name, model_and_batch):
    model, batch = model_and_batch(name, {"use_item_id": True, "held_out_items": 0.2})
    untrained = (~model.item_table.trained).nonzero().squeeze(1)[1:3]
    with torch.no_grad():
        for table, axis in tables_of_items(model, model.item_tables, model.n_items).values():
            if axis == 0:
                table[untrained] = 0  # MMM4Rec adds it, and it starts at zero
    model.append_items(NEW, features_of(model, untrained))
    with torch.no_grad():
        scores = model.full_sort_predict(batch)

    assert_close(scores[:, -2:], scores[:, untrained])


@pytest.mark.parametrize("name", SMALL)
def test_an_item_without_any_modality_is_never_recommended(name, model_and_batch):
    model, batch = model_and_batch(name, {})
    features = features_of(model, torch.tensor([4, 9]))
    for values, present in features.values():
        present[1] = False
        values[1] = 0
    model.append_items(NEW, features)
    with torch.no_grad():
        scores = model.full_sort_predict(batch)

    assert torch.isfinite(scores[:, -2]).all()
    assert (scores[:, -1] == -torch.inf).all()


@pytest.mark.parametrize("name", SMALL)
def test_parameters_with_a_row_per_item_are_all_named(name, toy):
    settings = {"use_item_id": True, "modalities": MODALITIES, "item_mm_fusion": "dynamic_instance"}
    settings = {k: v for k, v in settings.items() if k != "item_mm_fusion" or k in KEYS[name]}
    _, model, _ = prepare(name, toy, **settings)
    with_rows = [n for n, p in model.named_parameters() if p.dim() and len(p) == model.n_items]

    tables = tables_of_items(model, model.item_tables, model.n_items)
    assert with_rows and all(tables[name][1] == 0 for name in with_rows)


def test_other_modalities_and_a_loss_over_the_batch_are_refused(toy):
    _, model, _ = prepare("UniSRec", toy, modalities=MODALITIES)
    with pytest.raises(ValueError, match=r"features of \['text'\]; the table has"):
        model.append_items(["x"], {"text": (torch.zeros(1, 4), torch.ones(1, dtype=torch.bool))})
    _, model, _ = prepare("UniSRec", toy, modalities=MODALITIES, softmax="in_batch")
    with pytest.raises(ValueError, match="softmax: in_batch"):
        model.append_items(["x"], features_of(model, torch.tensor([1])))
