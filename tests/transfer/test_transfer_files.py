"""Every file of stages parses, says what it does, and its stages fit into each other."""

import re

import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model, get_trainer

from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import properties_dir
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.run.stages import plan_stages
from recbole_mm.transfer.pretrained import freeze, load_pretrained

PATHS = sorted((properties_dir() / "transfer").glob("*.yaml"))
TARGETS = ["Scientific", "Pantry", "Instruments", "Arts", "Office"]


def name(path):
    return path.stem


def test_the_papers_set_up_and_the_sets_at_hand_have_files_for_both_models():
    sources = ("FHCKM", "toys", "movielens")
    assert {path.stem for path in PATHS} >= {
        f"{model}_{source}" for model in ("MMM4Rec", "MISSRec") for source in sources
    }
    for model in ("MMM4Rec", "MISSRec"):
        plan = plan_stages(config_files=[properties_dir() / "transfer" / f"{model}_FHCKM.yaml"])
        assert [stage.config["dataset"] for stage in plan] == [
            "FHCKM",
            *(target for target in TARGETS for _ in range(2)),
        ]
        assert plan[0].config["domains"] == ["Food", "Home", "CDs", "Kindle", "Movies"]
        assert {stage.source for stage in plan[1:]} == {0}


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_line_says_its_type_and_what_it_does(path):
    lines = path.read_text().splitlines()
    assert lines[0] == f"# recbole-mm --config_files=transfer/{path.name}"
    for line in lines:
        if line.strip() and not line.startswith("#"):
            assert re.search(r"# \([\w ]+\) \S.+", line), line


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_stage_can_start_from_the_one_that_it_names(path, toy):
    states = []
    small = {**toy, "domains": [], "exclude_users_of": [], "same_domain_negatives": False}
    small["interest_clustering"] = "kmeans"
    for stage in plan_stages(config_files=[path], overrides=small):
        config = stage.config
        assert config["model"] in MODELS
        train, _, _ = data_preparation(config, MultiModalDataset(config))
        model = get_model(config["model"])(config, train._dataset)
        if stage.source is not None:
            state = states[stage.source]
            report = load_pretrained(
                model, state, config["reset"], bool(config["allow_fewer_layers"])
            )
            assert len(report.loaded) > 10
        freeze(model, config["freeze"])
        get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        states.append(model.state_dict())
        assert all(torch.isfinite(value).all() for value in states[-1].values())
