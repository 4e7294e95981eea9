"""Which losses can be recorded as CUDA graphs; that they are replayed rightly is in test_gpu."""

import logging
from contextlib import nullcontext

import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model
from tiny import TINY, TINY_HSTU, TINY_MMM4REC
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.training.cuda_graphs import DependsOnData, refuse_dependence_on_data

SMALL = {
    "MMM4Rec": TINY_MMM4REC,
    "UniSRec": {**TINY, "n_heads": 2, "n_experts": 2},
    "SASRecPlus": {**TINY, "n_heads": 2, "loss_positions": "last"},
    "HSTU": {**TINY_HSTU, "n_heads": 2},
}


def prepared(name, toy, **settings):
    config = load_config(name, config_dict={**toy, **SMALL[name], **settings})
    train, *_ = data_preparation(config, MultiModalDataset(config))
    model = get_model(name)(config, train._dataset).train()
    model.on_epoch_start(0)
    return config, model, next(iter(train))


@pytest.mark.parametrize(
    "name, settings",
    [
        ("MMM4Rec", {}),
        ("MMM4Rec", {"use_time": True, "use_item_id": False, "softmax": "full"}),
        ("MMM4Rec", {"repeat_propensity": "recency", "neighbor_scores": True, "neighbor_dimension": 4}),
        ("UniSRec", {}),
        ("SASRecPlus", {}),
        ("MMM4Rec", {"loss_positions": "all", "repeat_propensity": "shared"}),
        ("MMM4Rec", {"loss_positions": "all", "use_time": True, "causal_time": True}),
        ("UniSRec", {"loss_positions": "all", "neighbor_scores": True, "neighbor_dimension": 4}),
        ("SASRecPlus", {"loss_positions": "all", "softmax": "full"}),
        ("HSTU", {"loss_positions": "all", "softmax": "all_rows"}),
    ],
)  # fmt: skip
def test_a_loss_over_the_whole_table_can_be_recorded(name, settings, toy):
    _, model, batch = prepared(name, toy, **settings)

    refuse_dependence_on_data(model, batch)

    assert not model.fixed_length
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("softmax", ["trained", "full", "in_batch", "sampled"])
@pytest.mark.parametrize("name", SMALL)
def test_the_padding_changes_neither_the_loss_nor_its_gradients(name, softmax, toy):
    _, model, batch = prepared(name, toy, loss_positions="all", softmax=softmax)
    model.eval()  # no dropout, no noise
    found = []
    for model.fixed_length in (False, True):
        torch.manual_seed(0)  # negatives
        model.zero_grad()
        loss = model.calculate_loss(batch)
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        found.append({"loss": loss.detach(), **gradients})

    assert (batch["item_length"] < batch["item_id_list"].shape[1]).any()
    assert_close(*found)


@pytest.mark.parametrize(
    "settings, operator",
    [
        ({"softmax": "sampled"}, "_unique2"),
        ({"softmax": "in_batch"}, "_unique2"),
        ({"softmax": "sampled", "loss_positions": "all"}, "_unique2"),
        ({"items_per_block": 5, "loss_positions": "all"}, "_unique2"),
    ],
)
def test_what_depends_on_the_data_is_named(settings, operator, toy):
    _, model, batch = prepared("MMM4Rec", toy, **settings)

    with pytest.raises(DependsOnData, match=f"{operator} depends on the data"):
        refuse_dependence_on_data(model, batch)


@pytest.mark.parametrize(
    "work", [lambda x: x.sum().item(), lambda x: x[x > 0], lambda x: x.nonzero(), torch.unique]
)
def test_numbers_for_the_program_and_unknown_shapes_are_refused(work):
    class Model(torch.nn.Linear):
        at_fixed_length = nullcontext

        def calculate_loss(self, batch):
            work(batch)
            return self(batch).sum()

    with pytest.raises(DependsOnData):
        refuse_dependence_on_data(Model(3, 2), torch.ones(4, 3))


def test_without_a_gpu_it_has_no_effect_and_says_so(toy, caplog):
    from recbole_mm.training.trainer import MultiModalTrainer

    config, model, _ = prepared("MMM4Rec", toy, cuda_graphs=True, use_gpu=False)

    caplog.set_level(logging.INFO)

    assert MultiModalTrainer(config, model).graphed_loss is None
    assert "cuda_graphs: True needs a GPU" in caplog.text
