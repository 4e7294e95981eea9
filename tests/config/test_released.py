"""``released: True`` is a layer: over the model's file, under all that a user gives."""

import pytest
import yaml
from recbole.config import Config

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.load import load_config
from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.config.property_files import (
    joined,
    model_files,
    properties_dir,
    property_files,
    release_values,
    values_in,
)

WITH_A_RELEASE = sorted(path.stem for path in (properties_dir() / "released").glob("*.yaml"))


def values_of(config, keys) -> dict:
    return {key: config[key] for key in keys}


def test_models_with_a_release_are_those_with_the_key():
    with_key = [
        path.stem
        for path in (properties_dir() / "model").glob("*.yaml")
        if "released" in values_in(path)
    ]

    assert sorted(with_key) == WITH_A_RELEASE == ["MISSRec", "MMM4Rec"]


@pytest.mark.parametrize("model", WITH_A_RELEASE)
def test_a_release_sets_keys_of_its_model_to_values_that_they_can_have(model):
    keys = joined(map(values_in, model_files(model)))

    assert release_values(model).keys() <= keys.keys() - {"released"}
    refuse_wrong_values(release_values(model), "the release", model)


@pytest.mark.parametrize("model", WITH_A_RELEASE)
def test_released_sets_the_values_of_its_file_and_nothing_else(model):
    plain, released = (
        config_to_plain(load_config(model, "demo", config_dict={"released": value}))
        for value in (False, True)
    )

    assert released == {**plain, **release_values(model)}


@pytest.mark.parametrize("place", ["config_files", "config_dict", "stage", "overrides"])
def test_released_may_be_set_and_its_values_replaced_in_every_layer(tmp_path, place):
    def layer(values):
        if place != "config_files":
            return values
        file = tmp_path / "mine.yaml"
        file.write_text(yaml.safe_dump(values))
        return [file]

    release = release_values("MMM4Rec")
    whole = load_config("MMM4Rec", "demo", **{place: layer({"released": True})})
    own = load_config("MMM4Rec", "demo", **{place: layer({"released": True, "ssd_skip": "x"})})

    assert values_of(whole, release) == release
    assert values_of(own, release) == {**release, "ssd_skip": "x"}


def test_a_later_layer_takes_the_release_back():
    config = load_config(
        "MMM4Rec", "demo", config_dict={"released": True}, overrides={"released": False}
    )

    assert config["layer_norm_eps"] == 1e-5


def test_the_values_of_a_data_set_come_after_those_of_a_release(tmp_path, monkeypatch):
    for kind in ("model", "released", "dataset"):
        (tmp_path / kind).mkdir()
    (tmp_path / "model" / "MMM4Rec.yaml").write_text("released: False\ntemperature: 1.0\n")
    (tmp_path / "released" / "MMM4Rec.yaml").write_text("temperature: 2.0\nd_conv: 3\n")
    (tmp_path / "dataset" / "mine.yaml").write_text("temperature: 3.0\n")
    monkeypatch.setattr("recbole_mm.config.property_files.properties_dir", lambda: tmp_path)

    names = [path.parent.name for path in property_files("MMM4Rec", "mine", released=True)]

    assert names == ["model", "released", "dataset"]


def test_a_model_without_a_release_stays_as_it_is():
    config = load_config("UniSRec", "demo", config_dict={"released": True})

    assert values_of(config, ["softmax", "logq_correction"]) == {
        "softmax": "trained",
        "logq_correction": True,
    }


@pytest.mark.parametrize("skip", ["dt_x", "x"])
def test_recboles_own_config_knows_the_release(toy, monkeypatch, skip):
    monkeypatch.setattr("sys.argv", ["run.py", "--released=True", f"--ssd_skip={skip}"])

    config = Config(model="MMM4Rec", dataset="toy", config_dict={"data_path": toy["data_path"]})

    release = release_values("MMM4Rec")
    assert values_of(config, release) == {**release, "ssd_skip": skip}


# stored configurations


@pytest.mark.parametrize("settings", [{}, {"ssd_skip": "x", "softmax": "trained"}])
def test_a_stored_configuration_holds_the_values_of_the_release_and_of_its_user(settings):
    config = load_config("MMM4Rec", "demo", config_dict={"released": True, **settings})

    plain = config_to_plain(config)

    assert "released" not in plain
    expected = {**release_values("MMM4Rec"), **settings}
    assert values_of(config_from_plain(plain), expected) == expected
