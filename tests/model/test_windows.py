"""``loss_positions: all``: every event of a window is a target."""

import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model, init_seed
from tiny import TINY, TINY_HSTU, TINY_MMM4REC
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset

TIMED_MMM4REC = {**TINY_MMM4REC, "n_layers": 2, "use_time": True, "causal_time": True}
SETTINGS = {
    "MMM4Rec": {**TINY_MMM4REC, "n_layers": 2},
    "MMM4Rec, time": TIMED_MMM4REC,
    "MMM4Rec, request": {
        **TIMED_MMM4REC,
        "query_time": "request",
        "time_gate_per_position": True,
    },
    "MISSRec": {**TINY, "n_heads": 1, "causal": True, "reg_weight": 0.0},
    "UniSRec": {**TINY, "n_heads": 1},
    "SASRecPlus": {**TINY, "n_heads": 1},
    "HSTU": {**TINY_HSTU, "n_heads": 1},
}


@pytest.mark.parametrize("modalities", [["text"], ["text", "image"]], ids="-".join)
@pytest.mark.parametrize("softmax", ["full", "trained"])
@pytest.mark.parametrize("case", SETTINGS)
def test_the_loss_of_all_positions_is_that_of_all_prefixes(toy, case, modalities, softmax):
    name = case.partition(",")[0]
    means = {}
    for positions in ("last", "all"):
        settings = {**toy, **SETTINGS[case], "modalities": modalities, "softmax": softmax}
        config = load_config(name, config_dict={**settings, "loss_positions": positions})
        train, _, _ = data_preparation(config, MultiModalDataset(config))
        init_seed(1, True)
        model = get_model(name)(config, train.dataset).eval()
        with torch.no_grad():
            sums = [
                (model.calculate_loss(b) * model.n_targets(b), model.n_targets(b)) for b in train
            ]
        total, n = (sum(column) for column in zip(*sums, strict=True))
        means[positions] = (total / n, n)
    assert means["all"][1] == means["last"][1]
    assert_close(means["all"][0], means["last"][0])


def test_every_model_that_trains_on_windows_is_tested_here():
    from recbole_mm.config.models import MODELS

    assert {name for name in MODELS if get_model(name).trains_on_windows} == {
        case.partition(",")[0] for case in SETTINGS
    }


def test_the_contrast_of_pretraining_needs_one_target(toy):
    settings = {**toy, **SETTINGS["UniSRec"], "train_stage": "pretrain", "use_item_id": False}
    config = load_config("UniSRec", config_dict={**settings, "loss_positions": "all"})

    train, _, _ = data_preparation(config, MultiModalDataset(config))

    with pytest.raises(ValueError, match="loss_positions: all does not work with train_stage"):
        get_model("UniSRec")(config, train.dataset)
