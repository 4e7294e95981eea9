import numpy as np
import pytest
import torch

from recbole_mm.compare.dataset_description import describe_dataset
from recbole_mm.compare.entries import config_of, parse_entries
from recbole_mm.compare.protocols import PROTOCOLS, leak_warning, share_of_later_training
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.feature_files import write_item_features
from recbole_mm.run.run import Run

SMALL = {"hidden_size": 8, "inner_size": 8, "n_heads": 1}


def described(toy, protocol):
    overlay = PROTOCOLS[protocol].overlay
    return describe_dataset(load_config("SASRec", None, (), {**toy, **SMALL, **overlay}))


def test_the_future_that_a_test_event_is_trained_on():
    assert share_of_later_training(np.array([1, 2, 3, 4]), np.array([2, 4])) == 0.25
    assert "Here 25% of the training events are later" in leak_warning("leave_one_out", 0.25)
    assert "Here 1% of" in leak_warning("leave_one_out", 0.0051)
    assert leak_warning("leave_one_out", 0.0049) is None
    assert leak_warning("leave_one_out", None) is not None
    assert leak_warning("temporal", 0.25) is None


def test_leave_one_out_and_temporal_parts(toy):
    loo = described(toy, "leave_one_out")
    assert loo.counts["test targets"] == loo.counts["users"] == 40
    assert loo.items["training_count"].sum() == 40 * 5
    assert {"has_text", "has_image"} <= set(loo.items.columns)

    # seven moments, 40 events each: the last two days are validation and test
    temporal = described(toy, "temporal")
    assert temporal.later == 0
    assert temporal.counts["test targets"] == temporal.counts["validation targets"] == 40


def test_cold_items_have_no_training_interaction(toy):
    cold = described(toy, "cold_start").items

    assert (cold["training_count"] == 0).sum() == 1  # a tenth of twelve


@pytest.mark.parametrize("model", ["FDSA", "SASRecF"])
def test_models_with_item_columns_get_them_and_keep_the_candidates(model, toy, tmp_path):
    rows = [f"i{i}\tblue {'kite' if i % 2 else 'mug'}\tmaker{i % 3}\timages/{i}" for i in range(12)]
    header = "item_id:token\ttitle:token_seq\tbrand:token\timage:token"
    rows.append("never_bought\tred kite\tmaker9\timages/99")
    (tmp_path / "dataset/toy/toy.item").write_text("\n".join([header, *rows]) + "\n")
    (entry,) = parse_entries(model)

    config = config_of(entry, None, {}, {**toy, **SMALL, "epochs": 1, "show_progress": False})
    run = Run(config)
    run.train()
    result = run.test()

    assert config["selected_features"] == ["title", "brand"]
    assert run.splits.train.dataset.item_num == 13
    checkpoint = torch.load(result.checkpoint, weights_only=False)
    assert checkpoint["other_parameter"] == {}  # the module whose parameters are all here:
    assert any(name.startswith("feature_embed_layer.") for name in checkpoint["state_dict"])


def test_settings_of_a_file_do_not_change_the_candidates_either(toy, tmp_path):
    header = "item_id:token\tbrand:token"
    rows = [f"i{i}\tmaker{i % 3}" for i in range(12)]
    path = tmp_path / "dataset/toy/toy.item"
    path.write_text("\n".join([header, *rows, "never_bought\tmaker1"]) + "\n")
    (tmp_path / "best.yaml").write_text("model: FDSA\nlearning_rate: 0.01\n")
    (entry,) = parse_entries("FDSA@best.yaml")

    config = config_of(entry, "toy", {}, {**toy, **SMALL})

    assert (config["learning_rate"], config["selected_features"]) == (0.01, ["brand"])
    assert Run(config).splits.train.dataset.item_num == 13
    asked = config_of(entry, "toy", {}, {**toy, **SMALL, "item_inter_num_interval": "[2,inf)"})
    assert asked["item_inter_num_interval"] == "[2,inf)"


def test_item_columns_without_types_are_a_clear_error(toy, tmp_path):
    (tmp_path / "dataset/toy/toy.item").write_text("item_id\tbrand\ni1\tx\n")
    (entry,) = parse_entries("FDSA")

    with pytest.raises(DatasetError, match=r"toy\.item: its first line is .*e\.g\. item_id:token"):
        config_of(entry, None, {}, toy)


def test_a_modality_that_few_items_have_is_described_if_nobody_reads_it(toy, tmp_path):
    path = tmp_path / "dataset/toy/toy.audio.npz"
    write_item_features(path, ["i1"], np.ones((1, 3), np.float32))
    config = load_config("SASRec", None, (), {**toy, **SMALL, "min_feature_coverage": 0.5})

    assert describe_dataset(config).items["has_audio"].sum() == 1


def test_a_model_with_item_columns_is_refused_where_there_are_none(toy):
    (entry,) = parse_entries("FDSA")
    with pytest.raises(ConfigError, match="FDSA reads item columns, but .*toy.item does not exist"):
        config_of(entry, None, {}, toy)
