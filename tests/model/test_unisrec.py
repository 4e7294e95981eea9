"""UniSRec equals its definition, computed user by user and item by item."""

import pytest
import torch
import torch.nn.functional as F
from recbole.data import data_preparation
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.model.sequential_recommender.unisrec import UniSRec

SMALL = {"hidden_size": 8, "inner_size": 8, "n_heads": 2, "n_experts": 3, "n_layers": 1}


def build(toy, **settings):
    config = load_config("UniSRec", None, (), {**toy, **SMALL, **settings})
    train, valid, _ = data_preparation(config, MultiModalDataset(config))
    torch.manual_seed(0)
    model = UniSRec(config, train._dataset).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, next(iter(valid))[0]


def embedding(model, item):
    """One item: the sum over its modalities of experts mixed by their gate, and its id."""
    total = torch.zeros(model.hidden_size)
    for modality in model.modalities:
        if not model.present(modality)[item]:
            continue
        x, adapter = model.feature(modality)[item], model.adapters[modality]
        gates = torch.softmax(x @ adapter.gate, 0)
        for gate, expert in zip(gates, adapter.experts, strict=True):
            total = total + gate * ((x - expert.shift) @ expert.weight)
    return total + model.item_embedding.weight[item] if model.use_item_id else total


def user(model, items):
    """One history through one post-norm layer with causal attention, read at its last item."""
    x = torch.stack([embedding(model, i) for i in items])
    x = model.input_norm(x + model.position_embedding.weight[: len(items)])
    layer = model.encoder.layer[0]
    attention, feed = layer.multi_head_attention, layer.feed_forward
    heads = []
    for head in (attention.query(x[-1:]).chunk(2, -1),):
        keys, values = attention.key(x).chunk(2, -1), attention.value(x).chunk(2, -1)
        for q, k, v in zip(head, keys, values, strict=True):
            heads.append(torch.softmax(q @ k.T / k.shape[1] ** 0.5, -1) @ v)
    hidden = attention.LayerNorm(attention.dense(torch.cat(heads, -1)) + x[-1:])
    inner = feed.intermediate_act_fn(feed.dense_1(hidden))
    return F.normalize(feed.LayerNorm(feed.dense_2(inner) + hidden), dim=-1)[0]


@pytest.mark.parametrize("use_item_id", [False, True])
@pytest.mark.parametrize("modalities", [["text"], ["text", "image"]], ids="-".join)
def test_scores_and_loss_equal_the_definition(toy, use_item_id, modalities):
    model, batch = build(toy, use_item_id=use_item_id, modalities=modalities)
    with torch.no_grad():
        scores, loss = model.full_sort_predict(batch), model.calculate_loss(batch)
        items = torch.stack([embedding(model, i) for i in range(1, model.n_items)])
        expected = []
        for row in range(len(batch)):
            history = batch["item_id_list"][row, : batch["item_length"][row]].tolist()
            expected.append(F.normalize(items, dim=-1) @ user(model, history) / 0.07)
        expected = torch.stack(expected)

    assert_close(scores[:, 1:], expected, atol=1e-4, rtol=1e-4)
    assert_close(loss, F.cross_entropy(expected, batch["item_id"] - 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("coefficient", [0.0, 1.0], ids=["features", "items"])
def test_pretraining_adds_the_contrast_with_another_view(toy, coefficient):
    settings = {"train_stage": "pretrain", "use_item_id": False, "softmax": "in_batch"}
    settings |= {"item_drop_coefficient": coefficient, "item_drop_ratio": 0.5}
    model, batch = build(toy, **settings, sequence_loss_weight=2.0)
    plain, _ = build(toy, **settings, sequence_loss_weight=0.0)
    target = batch["item_id"]
    with torch.no_grad():
        items, rows = model.embed_batch(batch)
        torch.manual_seed(1)
        views = model.encode(batch, items, rows), model.read_augmented(batch, items, rows)
        torch.manual_seed(1)
        contrast = (model.calculate_loss(batch) - plain.calculate_loss(batch)) / 2
        logits = views[0] @ views[1].T / 0.07
        repeated = (target[:, None] == target) & ~torch.eye(len(target), dtype=torch.bool)
        expected = F.cross_entropy(
            logits.masked_fill(repeated, -torch.inf), torch.arange(len(target))
        )

    assert not torch.allclose(*views)
    assert_close(contrast, expected, atol=1e-3, rtol=1e-3)
