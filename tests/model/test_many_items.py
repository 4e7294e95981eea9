"""Catalogs that are embedded in blocks, and steps that touch the items of a batch alone."""

import pytest
import torch
from test_contract import SMALL, prepare
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.run.run import fit_and_evaluate
from recbole_mm.tools.errors import UserError
from recbole_mm.training.optimizers import build_optimizer

SETTINGS = {
    "without-id": {"use_item_id": False},
    "with-id": {"use_item_id": True},
    "new-items": {"use_item_id": True, "held_out_items": 0.2},
    "repeats": {"use_item_id": True, "softmax": "full", "repeat_propensity": "recency"},
}
PER_BLOCK = 5  # of twelve items and the padding item


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("name", SMALL)
def test_blocks_change_neither_loss_nor_gradients_nor_scores(name, settings, toy):
    def found(items_per_block):
        given = {**settings, "items_per_block": items_per_block, "modalities": ["text", "image"]}
        _, model, (train, _, test) = prepare(name, toy, **given)
        model.on_epoch_start(0)
        assert model.has_many_items == bool(items_per_block)
        loss = model.eval().calculate_loss(next(iter(train)))
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        with torch.no_grad():
            batch = next(iter(test))[0]
            return loss, gradients, model.full_sort_predict(batch), model.predict(batch)

    loss, gradients, *scores = found(PER_BLOCK)
    expected_loss, expected_gradients, *expected_scores = found(0)

    assert_close(loss, expected_loss)
    assert_close(scores, expected_scores)
    assert gradients.keys() == expected_gradients.keys()
    for parameter, gradient in gradients.items():
        expected = expected_gradients[parameter]
        assert not gradient.is_sparse
        assert_close(gradient, expected, atol=1e-5, rtol=1e-4, msg=parameter)


@pytest.mark.parametrize("softmax", ["sampled", "gbce", "in_batch"])
@pytest.mark.parametrize("name", SMALL)
def test_a_sparse_step_leaves_all_that_is_not_in_the_batch(name, softmax, toy):
    settings = {"softmax": softmax, "n_negatives": 1, "sparse_id_updates": True}
    config, model, (train, *_) = prepare(name, toy, **settings)
    optimizer = build_optimizer(config, model)
    model.on_epoch_start(0)
    batches = [batch[:2] for batch in list(train)[:1]] + [next(iter(train))[2:4]]
    for number, batch in enumerate(batches):
        before = [table.clone() for table in model.id_tables()]
        optimizer.zero_grad()
        torch.manual_seed(number)
        model.calculate_loss(batch).backward()
        touched = {int(row) for t in model.id_tables() for row in t.grad.coalesce().indices()[0]}
        optimizer.step()
        assert set(batch["item_id"].tolist()) <= touched and len(touched) < model.n_items
        for table, old in zip(model.id_tables(), before, strict=True):
            changed = (table != old).any(dim=1).nonzero().squeeze(1).tolist()
            assert changed and set(changed) <= touched
    for table in model.id_tables():  # neither do their moments
        moments = optimizer.sparse.state[table]["exp_avg_sq"]
        assert (moments == 0).all(dim=1).any() and (moments > 0).any()


def test_a_first_sparse_step_is_that_of_adam(toy):
    tables = []
    for sparse in (True, False):
        settings = {"softmax": "sampled", "sparse_id_updates": sparse, "loss_positions": "last"}
        config, model, (train, *_) = prepare("SASRecPlus", toy, modalities=[], **settings)
        optimizer = build_optimizer(config, model)
        torch.manual_seed(0)
        model.calculate_loss(next(iter(train))).backward()
        optimizer.step()
        tables.append(model.item_embedding.weight)

    assert_close(*tables, atol=1e-4, rtol=0)  # of steps of 1e-3; eps is added elsewhere


@pytest.mark.parametrize("name", SMALL)
def test_a_model_trains_with_sparse_steps_and_resumes(name, toy):
    settings = {**toy, **SMALL[name], "epochs": 2, "softmax": "sampled", "sparse_id_updates": True}
    result = fit_and_evaluate(load_config(name, config_dict=settings), saved=False)

    assert 0 <= result.test_result["ndcg@10"] <= 1


REFUSED = {
    "softmax: trained": {"softmax": "trained"},
    "needs use_item_id": {"use_item_id": False},
    "learner: sgd": {"learner": "sgd"},
    "weight_decay 0.1": {"weight_decay": 0.1},
    "clip_grad_norm": {"clip_grad_norm": {"max_norm": 1}},
    "gradient_accumulation_steps 2": {"gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_would_touch_every_row_is_refused(message, toy):
    settings = {"softmax": "sampled", "sparse_id_updates": True, **REFUSED[message]}
    with pytest.raises((UserError, ValueError), match=f"sparse_id_updates .*{message}"):
        config, model, _ = prepare("MMM4Rec", toy, **settings)
        build_optimizer(config, model)


@pytest.mark.parametrize(
    ("frozen", "left"),
    [("item_embeddings.*", "no item IDs"), ("*_layers.*", "nothing but item IDs")],
)
def test_sparse_steps_need_item_ids_and_other_parameters(frozen, left, toy):
    settings = {"softmax": "sampled", "sparse_id_updates": True, "freeze": [frozen]}
    config, model, _ = prepare("MMM4Rec", toy, **settings)
    for name, parameter in model.named_parameters():
        of_ids = name.startswith("item_embeddings.")
        parameter.requires_grad = of_ids if left.startswith("nothing") else not of_ids

    with pytest.raises(UserError, match=f"sparse_id_updates: True, but freeze: .* leaves {left}"):
        build_optimizer(config, model)
