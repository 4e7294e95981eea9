import os
import re
import sys

import pytest
import yaml

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.property_files import properties_dir


def write(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


def test_later_layers_win(tmp_path):
    first = write(
        tmp_path / "first.yaml", seed=1, epochs=1, split_to=1, stopping_step=1, eval_step=1
    )
    second = write(tmp_path / "second.yaml", epochs=2, split_to=2, stopping_step=2, eval_step=2)

    config = load_config(
        "SASRec",
        "demo",
        [first, second],
        config_dict={"split_to": 3, "stopping_step": 3, "eval_step": 3},
        stage={"stopping_step": 4, "eval_step": 4},
        overrides={"eval_step": 5},
    )

    values = [config[key] for key in ("seed", "epochs", "split_to", "stopping_step", "eval_step")]
    assert values == [1, 2, 3, 4, 5]


def test_our_defaults_come_between_recboles_and_the_users():
    config = load_config("SASRec", "toy")

    assert config["valid_metric"] == "NDCG@10", "properties/overall.yaml"
    assert config["n_heads"] == 2, "RecBole's SASRec.yaml"
    assert config["learning_rate"] == 0.001, "RecBole's overall.yaml"


def test_a_model_of_recbole_reads_no_features_and_needs_no_word_about_negative_samples():
    config = load_config("SASRec", "demo")

    assert config["modalities"] == []
    assert config["train_neg_sample_args"]["distribution"] == "none"
    assert (
        load_config("SASRec", "demo", overrides={"loss_type": "BPR"})["train_neg_sample_args"][
            "sample_num"
        ]
        == 1
    )


def test_the_command_line_of_the_host_process_is_not_read(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest", "--seed=99", "-x", "tests/"])

    assert load_config("SASRec", "demo")["seed"] == 2020


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("learning_rat", "'learning_rate'"),
        ("max_item_list_length", "'MAX_ITEM_LIST_LENGTH'"),
        ("modality", "'modalities'"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one_and_its_source(tmp_path, key, near):
    path = write(tmp_path / "mine.yaml", **{key: 1})

    with pytest.raises(ConfigError, match=f"mine.yaml: unknown key '{key}'; .*{near}"):
        load_config("SASRec", "demo", [path])
    with pytest.raises(ConfigError, match=f"command line: unknown key '{key}'; .*{near}"):
        load_config("SASRec", "demo", overrides={key: 1})


def test_an_unknown_key_that_resembles_none_is_refused_with_the_place_of_all():
    with pytest.raises(ConfigError, match=f"'zzzzzz'.*{properties_dir()}"):
        load_config("SASRec", "demo", overrides={"zzzzzz": 1})


def test_a_retired_key_is_not_proposed():
    with pytest.raises(ConfigError, match=r"did you mean 'train_neg_sample_args'\?$"):
        load_config("SASRec", "demo", overrides={"eval_neg_sample_args": 1})


@pytest.mark.parametrize("key", ["alias_of_item_id", "alias_of_my_id", "verbose", "neg_sampling"])
def test_keys_that_recbole_reads_without_a_property_file_are_known(key):
    load_config("SASRec", "demo", overrides={key: None})


def test_keys_of_a_group_of_processes_are_refused():
    with pytest.raises(ConfigError, match="command line: 'nproc' is not needed; torchrun"):
        load_config("SASRec", "demo", overrides={"nproc": 2})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sasrec", "unknown model 'sasrec': did you mean 'SASRec'"),
        ("MMM4rec", "unknown model 'MMM4rec': did you mean 'MMM4Rec'"),
        (
            "Nonsense-9",
            "of this package are .*MISSRec, MMM4Rec.*; RecBole's sequential models are BERT4Rec",
        ),
    ],
)
def test_an_unknown_model_is_refused_with_the_known_ones(model, message):
    with pytest.raises(ConfigError, match=message):
        load_config(model, "demo")


@pytest.mark.parametrize("missing", ["model", "dataset"])
def test_model_and_data_set_must_be_named(missing):
    named = {"model": "SASRec", "dataset": "demo"}
    del named[missing]

    with pytest.raises(ConfigError, match=f"no {missing} is named: give --{missing}=NAME"):
        load_config(**named)


def test_model_and_data_set_may_be_named_in_a_file(tmp_path):
    path = write(tmp_path / "mine.yaml", model="SASRec", dataset="demo")

    config = load_config(config_files=[path])

    assert (config["model"], config["dataset"]) == ("SASRec", "demo")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"metrics": ["Precission"]},
            "metrics: unknown metric 'Precission'; did you mean 'precision'",
        ),
        ({"topk": [0]}, r"'topk' is \[0\]; it must be a non-empty list of whole numbers >= 1 or"),
        ({"repeatable": False}, "set `repeatable` as `True`"),
        (
            {"epochs": "ten"},
            r"line: 'epochs' is 'ten'; it must be a whole number >= 0 \(default: 8\)",
        ),
        ({"epochs": None}, r"line: 'epochs' is None; it must be a whole number >= 0"),
        ({"use_gpu": "nope"}, "'use_gpu' is 'nope'; it must be True or False"),
        ({"valid_metric": "NDCG"}, r"valid_metric 'NDCG' is not measured: .* \[5, 10, 20\]"),
        ({"valid_metric": "NDCG@7"}, r"valid_metric 'NDCG@7' is not measured: .* \[5, 10, 20\]"),
        (
            {"data_path": 5},
            "'data_path' is 5; it must be a string",
        ),
        (
            {"load_col": {"intr": ["a"]}},
            "'load_col' names columns of a file 'intr'; did you mean 'i",
        ),
        (
            {"loss_type": "BPR", "train_neg_sample_args": None},
            "loss_type: BPR compares an item with a negative sample, but train_neg_sample_args is",
        ),
        ({"log_wandb": True}, "log_wandb: True needs wandb: pip install wandb"),
        (
            {"USER_ID_FIELD": "item_id"},
            "USER_ID_FIELD=item_id, .* users, items and times must be differ",
        ),
        ({"LIST_SUFFIX": ""}, "'LIST_SUFFIX' is ''; it must be a non-empty string"),
        ({"state": "LOUD"}, "'state' is 'LOUD'; it must be one of INFO, DEBUG"),
        ({"eval_args": {"order": "RO"}}, "'order' in it is 'RO'; it must be TO"),
        (
            {"eval_args": {"mode": {"valid": "full", "test": "labeled"}}},
            "mode: labeled compares scores with labels, so Recall, NDCG, MRR, Hit cannot be measured",
        ),
        ({"metrics": ["NDGC"]}, "metrics: unknown metric 'NDGC'; did you mean 'ndcg'?"),
        ({"metrics": ["zzz"]}, "metrics: unknown metric 'zzz'; known: auc, averagepopularity"),
        (
            {"neg_sampling": {"uniform": 1}},
            "'neg_sampling' has no effect .* 'train_neg_sample_args'",
        ),
        ({"training_neg_sample_num": 2}, "'training_neg_sample_num' has no effect"),
        (
            {"metrics": ["AUC"], "valid_metric": "AUC"},
            "metrics: AUC compare scores with labels, but eval_args: mode: full ranks items",
        ),
        (
            {"metrics": ["NDCG", "AUC"], "eval_args": {"mode": "uni100"}},
            "metrics: AUC compare scores with labels and NDCG rank items: measure one kind at a time",
        ),
        (
            {"metrics": ["Recall"]},
            r"valid_metric 'NDCG@10' is not measured: metrics are \['Recall'",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_a_config_error(monkeypatch, overrides, message):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=message):
        load_config("SASRec", "demo", overrides=overrides)


def test_an_empty_config_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")

    config = load_config("SASRec", "demo", [path])

    assert config.final_config_dict == load_config("SASRec", "demo").final_config_dict


def test_every_layer_is_checked_and_the_message_names_it(tmp_path):
    file = write(tmp_path / "mine.yaml", n_experts=2.5)
    wrong = re.escape("'n_experts' is 2.5; it must be a whole number >= 1 (default: 8)")

    for layer, source in (
        ({"config_files": [file]}, "mine.yaml"),
        ({"config_dict": {"n_experts": 2.5}}, "config_dict"),
        ({"stage": {"n_experts": 2.5}}, "stage"),
        ({"overrides": {"n_experts": 2.5}}, "command line"),
    ):
        with pytest.raises(ConfigError, match=f"{source}: {wrong}"):
            load_config("UniSRec", "demo", **layer)


@pytest.mark.parametrize(
    ("given", "split", "mode"),
    [
        ({"order": "TO", "mode": "full"}, {"LS": "valid_and_test"}, "full"),
        ({"mode": "uni100"}, {"LS": "valid_and_test"}, "uni100"),
        ({"split": {"RS": [0.8, 0.1, 0.1]}}, {"RS": [0.8, 0.1, 0.1]}, "full"),
    ],
)
@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_what_a_mapping_leaves_out_keeps_its_default(model, given, split, mode):
    config = load_config(model, "demo", config_dict={"eval_args": given})

    assert config["eval_args"] == {
        "split": split,
        "order": "TO",
        "group_by": "user",
        "mode": {"valid": mode, "test": mode},
    }


def test_what_a_mapping_leaves_out_is_that_of_the_layers_below(tmp_path):
    file = write(tmp_path / "mine.yaml", eval_args={"split": {"RS": [8, 1, 1]}})

    config = load_config(
        "MMM4Rec",
        "demo",
        [file],
        overrides={"eval_args": {"group_by": None}, "load_col": {"user": ["user_id"]}},
    )

    assert config["eval_args"]["split"] == {"RS": [8, 1, 1]}
    assert config["eval_args"]["group_by"] is None
    assert config["load_col"] == {
        "inter": ["user_id", "item_id", "timestamp"],
        "item": ["item_id", "title"],
        "user": ["user_id"],
    }


def test_several_gpus_may_be_a_list():
    config = load_config("SASRec", "demo", overrides={"gpu_id": [0, 1]})

    assert config["gpu_id"] == "0,1"


@pytest.mark.parametrize("use_gpu, device", [(True, "cuda"), (False, "cpu")])
def test_without_use_gpu_a_run_stays_on_the_cpu(monkeypatch, use_gpu, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the configuration writes it
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = load_config("MMM4Rec", "demo", config_dict={"use_gpu": use_gpu})
    assert config["device"].type == device


@pytest.mark.parametrize("visible", [None, "1"])
def test_a_run_on_the_cpu_does_not_hide_the_gpus_from_the_next_one(monkeypatch, visible):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    load_config("MMM4Rec", "demo", config_dict={"use_gpu": False})

    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible
