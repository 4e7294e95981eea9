import os

import pytest
import yaml

from recbole_mm.config.data_settings import DATA_KEYS, data_settings
from recbole_mm.config.load import load_config

STAGES = {
    "model": "MMM4Rec",
    "modalities": ["text"],
    "stages": [
        {"dataset": "Pantry", "data_path": "sets"},
        {"dataset": "FHCKM", "modalities": ["image"]},
    ],
}


@pytest.mark.parametrize(
    ("dataset", "values"),
    [("Pantry", {}), ("FHCKM", {"data_path": "sets"}), ("x", {"benchmark_filename": ["a", "b"]})],
)
def test_they_are_those_of_the_whole_configuration(tmp_path, dataset, values):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"modalities": ["image"], **values}))
    overrides = {"domains": ["a", "b"]} if dataset == "x" else {}

    (settings,) = data_settings("MMM4Rec", dataset, [path], overrides)

    config = load_config("MMM4Rec", dataset, [path], overrides=overrides)
    for key in (*DATA_KEYS, "dataset"):
        assert settings[key] == config[key]


def test_every_stage_has_its_own(tmp_path):
    path = tmp_path / "stages.yaml"
    path.write_text(yaml.safe_dump(STAGES))

    first, second = data_settings(config_files=[path])

    assert first["data_path"] == os.path.join("sets", "Pantry")
    assert first["modalities"] == ["text"]
    assert second["domains"] == ["Food", "Home", "CDs", "Kindle", "Movies"]
    assert second["modalities"] == ["image"]


@pytest.mark.parametrize("stages", [3, "x", [None], [], [3]])
def test_what_is_malformed_is_left_to_the_whole_configuration(tmp_path, stages):
    path = tmp_path / "stages.yaml"
    path.write_text(yaml.safe_dump({"model": "MMM4Rec", "stages": stages}))

    assert data_settings(config_files=[path]) == []
