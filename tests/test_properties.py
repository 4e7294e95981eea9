"""Every property file parses, is used, and says what each of its values does."""

import re

import pytest

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.forms import parse_form
from recbole_mm.config.keys import known_keys
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import RECBOLE_KEYS, properties_dir
from recbole_mm.data.builtin import BUILTIN
from recbole_mm.tools.yaml_files import read_yaml

PATHS = sorted(
    p
    for kind in ("", "dataset", "model", "released", "tuned")
    for p in (properties_dir() / kind).glob("*.yaml")
)
TUNED = [path for path in PATHS if path.parent.name == "tuned"]


def name(path):
    return str(path.relative_to(properties_dir()))


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_line_of_a_property_file_says_its_type_and_what_it_does(path):
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#") and not re.match(r"^ {4}\w+: \[", line):
            form, text = re.search(r"# \(([^)]+)\) (\S.+)", line).groups()
            parse_form(form)
            assert text


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_a_property_file_begins_with_the_command_that_uses_or_makes_it(path):
    first = path.read_text().splitlines()[0]

    assert first.startswith("#")
    assert re.search(r"python \w+/?\w+\.py|recbole-mm", first)


@pytest.mark.parametrize("path", PATHS, ids=name)
def test_every_key_of_a_property_file_is_known_and_appears_once(path):
    keys = re.findall(r"^(\w+):", path.read_text(), flags=re.MULTILINE)

    assert set(keys) == set(read_yaml(path))
    assert len(keys) == len(set(keys))
    assert set(keys) <= known_keys()


def test_every_model_has_its_file_and_every_file_its_model():
    assert {p.stem for p in (properties_dir() / "model").glob("*.yaml")} == set(MODELS)


@pytest.mark.parametrize("path", TUNED, ids=name)
def test_a_tuned_file_runs_its_model_with_what_was_given_to_all(path):
    config = load_config(dataset="ToysSource", config_files=[path])

    given = {key: config[key] for key in ("MAX_ITEM_LIST_LENGTH", "epochs", "stopping_step")}
    assert config["model"] == path.stem
    assert given == {"MAX_ITEM_LIST_LENGTH": 20, "epochs": 20, "stopping_step": 3}
    assert config["hidden_size"] == 64
    assert "Best of 4 random trials" in path.read_text()


@pytest.mark.parametrize("path", [p for p in PATHS if p.parent.name == "dataset"], ids=name)
@pytest.mark.parametrize("model", [*MODELS, "SASRec", "FDSA"])
def test_a_data_set_gives_every_model_values_that_it_can_have(model, path):
    refuse_wrong_values(read_yaml(path), str(path), model)


def test_the_file_of_recboles_keys_sets_nothing():
    values = read_yaml(properties_dir() / RECBOLE_KEYS)

    fields = [value for value in values.values() if value is not None]
    assert all(set(field.values()) == {None} for field in fields)


def test_every_data_set_that_makes_itself_has_its_file():
    assert set(BUILTIN) <= {p.stem for p in (properties_dir() / "dataset").glob("*.yaml")}


@pytest.mark.parametrize("dataset", [p.stem for p in PATHS if p.parent.name == "dataset"])
@pytest.mark.parametrize("model", [*MODELS, "SASRec", "FDSA"])
def test_every_model_has_a_configuration_on_every_data_set(model, dataset):
    config = load_config(model, dataset)

    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    assert config["valid_metric"] == "NDCG@10"


def test_models_are_compared_on_the_same_metrics_split_and_candidates():
    keys = ("eval_args", "metrics", "topk", "valid_metric", "repeatable", "load_col")
    settings = [
        {key: load_config(model, "demo")[key] for key in keys} for model in (*MODELS, "SASRec")
    ]

    assert all(setting == settings[0] for setting in settings)
