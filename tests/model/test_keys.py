"""The keys in a model's yaml are the keys that it reads."""

import sys

import pytest
from recbole.config import Config

from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import MULTI_MODAL, keys_in, properties_dir
from recbole_mm.run.run import fit_and_evaluate

# some keys are read only where an option asks for them
SETTINGS = {
    "defaults": {},
    "pretrain": {
        "train_stage": "pretrain",
        "use_item_id": False,
        "softmax": "in_batch",
        "modalities": ["text"],
    },
    "accumulation": {"gradient_accumulation_steps": 2},
    "binary cross entropy": {"softmax": "gbce"},
    "other clustering": {"interest_clustering": "dpc_knn"},
}
SMALL = {"hidden_size": 16, "inner_size": 16, "n_groups": 1, "d_state": 4, "head_dim": 16}
READ_WHILE_A_CONFIG_IS_MADE = {"loss_type", "released"}  # the kind of its batches, a layer
SHARED = properties_dir() / MULTI_MODAL
MODEL_CODE = (
    "recbole_mm.model.abstract_recommender",
    "recbole_mm.model.item_recommender",
    "recbole_mm.model.sequential_recommender.",
)


@pytest.fixture
def read_by(monkeypatch):
    """Modules and the keys that they read from a configuration."""
    keys, original = {}, Config.__getitem__

    def record(config, key):
        caller = sys._getframe(1).f_globals["__name__"]
        keys.setdefault(caller, set()).add(key)
        return original(config, key)

    monkeypatch.setattr(Config, "__getitem__", record)
    return keys


@pytest.mark.parametrize("model", MODELS)
def test_the_keys_in_a_models_yaml_are_exactly_the_keys_that_it_reads(model, toy, read_by):
    in_yaml = keys_in(properties_dir() / "model" / f"{model}.yaml")
    everywhere = keys_in(properties_dir() / "overall.yaml") | keys_in(SHARED)
    everywhere |= load_config("SASRec", "toy").final_config_dict.keys()  # RecBole's own
    for settings in SETTINGS.values():
        fitting = {k: v for k, v in {**SMALL, **settings}.items() if k in in_yaml | keys_in(SHARED)}
        config = load_config(model, config_dict={**toy, **fitting, "epochs": 1})
        fit_and_evaluate(config, saved=False, verbose=False)

    read = READ_WHILE_A_CONFIG_IS_MADE.union(*read_by.values())
    by_model = set().union(*(k for m, k in read_by.items() if m.startswith(MODEL_CODE)))
    assert (in_yaml | keys_in(SHARED)) - read == set(), "nobody reads these"
    assert by_model - in_yaml - everywhere == set(), "these have no line in the yaml"
