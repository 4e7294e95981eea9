"""A bundle says which data its model has seen, and under which terms they are."""

import json

import numpy as np
import pytest
from tiny import PRETRAIN, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.training_data import UNKNOWN
from recbole_mm.recommend.card_of_data import terms_of_data
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import run
from recbole_mm.run.stages import run_stages
from recbole_mm.tools.torch_files import read_torch, save_torch

PRETRAINED = {
    "name": "AB", "stage": "pretrain", "domains": ["A", "B"], "without_users_of": ["C"],
    "terms": {"A": "not for sale", "B": None},
}  # fmt: skip
TUNED = {
    "name": "C", "stage": "finetune", "domains": [], "without_users_of": [],
    "terms": {"C": "research\nonly | cite"},
}  # fmt: skip


def write_set(root, name, users, **facts):
    """Each user walks over the items a, b, c, d."""
    folder = root / name
    folder.mkdir(parents=True)
    rows = [f"{user}\t{item}\t{n}" for user in users for n, item in enumerate("abcd")]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (folder / f"{name}.inter").write_text("\n".join([header, *rows]) + "\n")
    values = np.eye(4, 3, dtype=np.float32)
    write_item_features(feature_path(folder, name, "text"), list("abcd"), values, {"encoder": "x"})
    (folder / f"{name}.card.json").write_text(json.dumps({"name": name, **facts}))


@pytest.fixture
def settings(tmp_path):
    root = tmp_path / "dataset"
    write_set(root, "A", ["u1", "u2", "u3"], terms="not for sale")
    write_set(root, "B", ["u4", "u5"])
    write_set(root, "C", ["u3", "u6", "u7"], terms="research\nonly | cite")
    saved = str(tmp_path / "saved")
    given = {**TINY_MMM4REC, "model": "MMM4Rec", "modalities": ["text"], "epochs": 1}
    return {**given, "data_path": str(root), "checkpoint_dir": saved}


@pytest.fixture
def checkpoint(settings):
    """Of a model that is pre-trained on a mixture and fine-tuned."""
    stages = [
        {**PRETRAIN, "dataset": "AB", "domains": ["A", "B"], "exclude_users_of": "targets"},
        {"train_stage": "finetune", "dataset": "C"},
    ]
    return run_stages(config_dict={**settings, "stages": stages})[-1].checkpoint


def facts_of(folder):
    return json.loads((folder / "config.json").read_text())["facts"]


def test_a_bundle_carries_the_terms_of_all_data_that_its_model_has_seen(checkpoint, tmp_path):
    assert main(["export", checkpoint, str(tmp_path / "bundle"), "--no-test"]) == 0

    card = (tmp_path / "bundle" / "README.md").read_text()
    assert facts_of(tmp_path / "bundle")["training_data"] == [PRETRAINED, TUNED]
    assert (
        "1. pre-trained on `AB`, a mixture of the domains `A` and `B`, without the users of `C` "
        "(`exclude_users_of`)\n2. fine-tuned on `C`\n" in card
    )
    assert "| `A` | not for sale |\n| `B` | none are recorded |\n" in card
    assert "| `C` | research only \\| cite |" in card


def test_what_starts_from_a_bundle_carries_them_on(checkpoint, settings, tmp_path):
    bundle, last = tmp_path / "bundle", tmp_path / "last"
    Recommender.from_pretrained(checkpoint).export(bundle)

    result = run(
        config_dict={
            **settings,
            "dataset": "B",
            "pre_model_path": str(bundle),
            "use_item_id": False,
        }
    )
    Recommender.from_pretrained(result.checkpoint).export(last)
    Recommender.from_pretrained(last).export(tmp_path / "again")

    records = facts_of(tmp_path / "again")["training_data"]
    assert records[:2] == [PRETRAINED, TUNED] and records[2]["name"] == "B"


def test_a_checkpoint_without_a_record_has_what_the_data_set_says_today(checkpoint, tmp_path):
    state = read_torch(checkpoint)
    del state["training_data"]
    save_torch(state, tmp_path / "old.pth")

    Recommender.from_pretrained(tmp_path / "old.pth").export(tmp_path / "bundle")

    assert facts_of(tmp_path / "bundle")["training_data"] == [UNKNOWN, TUNED]
    card = (tmp_path / "bundle" / "README.md").read_text()
    assert "1. pre-trained on data that the checkpoint does not name\n2. fine-tuned on `C`" in card


def test_of_one_training_the_data_are_those_that_it_was_trained_on():
    assert "\n1. trained on `C`\n" in terms_of_data([TUNED])
    assert terms_of_data([]) == ""
