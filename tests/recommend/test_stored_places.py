"""A checkpoint of somebody else makes no files outside of the working directory."""

import os

import pytest

from recbole_mm.config.load import load_config
from recbole_mm.recommend.checkpoint import CheckpointError
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import Run


def test_it_makes_no_data_set_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "home").mkdir()
    (tmp_path / "victim").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    settings = {"modalities": [], "epochs": 1, "loss_positions": "last", "hidden_size": 8}
    settings |= {"data_path": str(tmp_path / "victim"), "checkpoint_dir": str(tmp_path / "home")}
    run = Run(load_config("SASRecPlus", "demo", (), settings))
    run.trainer._save_checkpoint(0, saved_model_file="model.pth")
    assert Recommender.from_pretrained("model.pth").catalog.tokens.len() == 401
    (tmp_path / "victim/demo").rename(tmp_path / "away")

    with pytest.raises(CheckpointError, match=r"makes files only in the working directory"):
        Recommender.from_pretrained("model.pth")

    assert os.listdir(tmp_path / "victim") == []
    monkeypatch.chdir(tmp_path / "victim")
    Recommender.from_pretrained("../home/model.pth")
    assert (tmp_path / "victim/demo/demo.inter").is_file()
