import re
from pathlib import Path

import pytest

from recbole_mm.config.defaults import NOT_OF_A_DATASET, our_defaults
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import known_keys
from recbole_mm.config.load import load_config
from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.config.property_files import properties_dir
from recbole_mm.run.run import Run
from recbole_mm.tools.yaml_files import YamlFileError

PLACES = ("dataset/Mine/Mine.yaml", "properties/dataset/Mine.yaml")


def write(path, text: str) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_a_data_set_of_the_user_has_a_file_of_its_own(place, model):
    write(place, "epochs: 7\neval_args: {split: {RS: [8, 1, 1]}}\n")

    config = load_config(model, "Mine")

    assert config["epochs"] == 7
    assert config["eval_args"]["split"] == {"RS": [8, 1, 1]}
    assert config["eval_args"]["order"] == "TO", "what it leaves out keeps its default"
    assert load_config(model, "Other")["epochs"] == 300


def test_the_file_beside_the_data_comes_last_and_what_a_run_is_given_above_it():
    write("elsewhere/Mine/Mine.yaml", "epochs: 1\nseed: 1\nstopping_step: 1\n")
    write("properties/dataset/Mine.yaml", "epochs: 2\nseed: 2\neval_step: 2\n")
    file = write("run.yaml", "seed: 3\ndata_path: elsewhere\n")

    config = load_config("SASRec", "Mine", [file])

    keys = ("epochs", "seed", "stopping_step", "eval_step")
    assert [config[key] for key in keys] == [1, 3, 1, 2]


def test_a_shipped_data_set_may_have_one_too():
    write("dataset/demo/demo.yaml", "epochs: 7\n")

    config = load_config("MMM4Rec", "demo")

    assert (config["epochs"], config["head_dim"]) == (7, 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 7\n", "Mine.yaml: unknown key 'epoch'; did you mean 'epochs'"),
        ("epochs: -7\n", "Mine.yaml: 'epochs' is -7; it must be a whole number >= 0"),
        ("model: os:system\n", "Mine.yaml: model cannot be set by the file of a data set"),
        ("dataset_save_path: x.pth\n", "dataset_save_path cannot be set by the file of a data set"),
        ("data_path: /etc\n", "data_path cannot be set by the file of a data set"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_what_its_file_cannot_hold_is_refused_by_file_and_key(place, text, message):
    write(place, text)

    with pytest.raises(ConfigError, match=message):
        load_config("MMM4Rec", "Mine")


def test_no_key_that_names_a_place_or_a_service_is_of_a_data_set():
    elsewhere = re.compile(r"path|dir$|folder|cache|file|save_data|track|wandb|upload|url")
    inside = {"benchmark_filename"}  # ends of names of files in its own folder

    keys = {key for key in known_keys() if elsewhere.search(key)} - inside

    assert {"data_cache", "tracker", "feature_path", "save_dataset"} <= keys
    assert keys - {*NOT_OF_A_DATASET, "config_file"} == set()


def test_a_damaged_file_is_named():
    write(PLACES[0], "epochs: [\n")

    with pytest.raises(YamlFileError, match=r"dataset/Mine/Mine.yaml' cannot be read as yaml"):
        load_config("MMM4Rec", "Mine")


def test_a_stored_configuration_is_complete_without_it():
    file = write(PLACES[0], "epochs: 7\nload_col: {item: [item_id, title]}\n")
    plain = config_to_plain(load_config("SASRec", "Mine"))
    file.write_text("epochs: [\n")

    again = config_from_plain(plain)

    assert again["epochs"] == 7
    assert again["load_col"]["item"] == ["item_id", "title"]


def test_recboles_own_config_reads_it_for_our_models(toy):
    from recbole.config import Config

    write(f"{toy['data_path']}/toy/toy.yaml", "n_layers: 3\neval_args: {mode: uni5}\n")

    config = Config("MMM4Rec", "toy", config_dict={"data_path": toy["data_path"]})

    assert config["n_layers"] == 3
    assert config["eval_args"]["split"] == {"LS": "valid_and_test"}


def test_a_mixture_names_its_domains_in_its_file(toy):
    write(f"{toy['data_path']}/Both/Both.yaml", "domains: [toy]\nmodalities: [text]\n")

    run = Run(load_config("SASRec", "Both", config_dict={"data_path": toy["data_path"]}))

    assert run.splits.train.dataset.domains == ["toy"]


def test_values_of_a_file_are_nobodys_to_change():
    first = our_defaults("MMM4Rec")
    first["eval_args"]["split"] = None
    first["load_col"]["inter"].clear()

    second = our_defaults("MMM4Rec")

    assert second["eval_args"]["split"] == {"LS": "valid_and_test"}
    assert second["load_col"]["inter"] == ["user_id", "item_id", "timestamp"]


def test_in_a_checkout_a_file_of_the_package_is_read_once(monkeypatch):
    monkeypatch.chdir(properties_dir().parent)

    assert our_defaults("MMM4Rec", "demo", "dataset") == our_defaults("MMM4Rec", "demo")


def test_a_baseline_on_ids_alone_has_no_features_of_the_data_set_unless_asked():
    write("dataset/demo/demo.yaml", "modalities: [text, image]\n")

    assert load_config("SASRecPlus", "demo")["modalities"] == []
    assert load_config("UniSRec", "demo")["modalities"] == ["text", "image"]
    assert load_config("SASRecPlus", "demo", overrides={"modalities": ["text"]})["modalities"] == [
        "text"
    ]
