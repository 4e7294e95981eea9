from pathlib import Path

import pytest

from recbole_mm.compare.entries import config_of, parse_entries
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import properties_dir


def test_entries_have_their_own_settings():
    entries = parse_entries("MMM4Rec+modalities=[text, image]+use_item_id=False,SASRec@a/b.yaml")

    first, second = entries
    assert first.label == "MMM4Rec+modalities=[text, image]+use_item_id=False"
    assert first.settings == {"modalities": ["text", "image"], "use_item_id": False}
    assert (second.label, second.model, second.files) == ("SASRec (b)", "SASRec", ["a/b.yaml"])


def test_files_of_one_name_are_told_apart_by_their_folders():
    labels = [entry.label for entry in parse_entries("SASRec@a/best.yaml,SASRec@b/best.yaml")]

    assert labels == ["SASRec (a/best.yaml)", "SASRec (b/best.yaml)"]


def test_tuned_settings_are_those_of_the_package():
    (entry,) = parse_entries("SASRec@tuned+hidden_size=32")

    assert Path(entry.files[0]) == properties_dir() / "tuned" / "SASRec.yaml"
    with pytest.raises(ConfigError, match="BERT4Rec@tuned: only GRU4Rec,"):
        parse_entries("BERT4Rec@tuned")


def test_a_file_that_is_named_like_its_model_is_left_out_of_the_label():
    def labels(text):
        return [entry.label for entry in parse_entries(text)]

    assert labels("SASRec@tuned/SASRec.yaml+seed_of=1") == ["SASRec+seed_of=1"]
    assert labels("GRU4Rec@tuned,SASRec@tuned") == ["GRU4Rec", "SASRec"]
    assert labels("SASRec@tuned/SASRec.yaml,SASRec") == ["SASRec (tuned/SASRec.yaml)", "SASRec"]


def test_a_file_sets_nothing_that_entries_have_in_common(toy, tmp_path):
    file = tmp_path / "best.yaml"
    of_the_data = "train_users: 0.1\ntie_order: item\nexclude_users_of: [other]\n"
    own = "dataset: other\ntopk: [10]\nseed: 3\ndata_path: nowhere\nhidden_size: 16\n"
    file.write_text(own + of_the_data)
    (entry,) = parse_entries(f"SASRec@{file}")

    config = config_of(entry, "toy", {}, {**toy, "seed": 1})

    assert (config["topk"], config["seed"], config["hidden_size"]) == ([5, 10, 20], 1, 16)
    assert config["data_path"].endswith("dataset/toy")
    assert (config["train_users"], config["tie_order"], config["exclude_users_of"]) == (
        1,
        "file",
        None,
    )


def test_a_file_of_another_model_is_refused(toy, tmp_path):
    file = tmp_path / "best.yaml"
    file.write_text("model: GRU4Rec\nlearning_rate: 0.5\n")
    (entry,) = parse_entries(f"SASRec@{file}")

    with pytest.raises(ConfigError, match="best.yaml holds settings for GRU4Rec, not for SASRec"):
        config_of(entry, "toy", {}, toy)


@pytest.mark.parametrize("text", ["", "SASRec,SASRec"])
def test_no_entry_or_a_duplicate_is_refused(text):
    with pytest.raises(ConfigError, match="--models is empty|duplicate entries: SASRec"):
        parse_entries(text)
