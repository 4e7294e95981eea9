import re
import sys
from fnmatch import fnmatchcase

import numpy as np
import pytest
import torch
import yaml

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import keys_of_other_models, known_keys
from recbole_mm.config.limits import LIMITS
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS, RECBOLE_DIR, recbole_models
from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.config.property_files import properties_dir
from recbole_mm.config.values import parse_overrides, parse_value


def write(path, **values):
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("-1", -1),
        ("None", None),
        ("~", None),
        ("True", True),
        ("false", False),
        ("[5,10]", [5, 10]),
        ("[text, image]", ["text", "image"]),
        ("{'LS': 'valid_and_test'}", {"LS": "valid_and_test"}),
        ("{LS: valid_and_test}", {"LS": "valid_and_test"}),
        ("[0,inf)", "[0,inf)"),
        ("saved/my run", "saved/my run"),
        ("1/0", "1/0"),
        ("sum", "sum"),
        ("2020-01-02", "2020-01-02"),
        ("a: b: c", "a: b: c"),
        ("", ""),
    ],
)
def test_an_option_is_read_as_the_value_that_it_looks_like(text, value):
    assert parse_value(text) == value


def test_an_option_may_stand_apart_from_its_value_and_hold_equal_signs_and_spaces():
    arguments = ["--checkpoint_dir=runs/lr=1e-3, seed 1", "--epochs", "2", "--seed", "-1"]

    assert parse_overrides(arguments) == {
        "checkpoint_dir": "runs/lr=1e-3, seed 1",
        "epochs": 2,
        "seed": -1,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["epochs=2"], "'epochs=2' is no option: write --key=value"),
        (["--epochs"], "--epochs has no value"),
        (["--epochs", "--seed=1"], "--epochs has no value"),
        (["--seed=1", "--seed=2"], "--seed is given twice: 1 and 2"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_overrides(arguments)


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

    with pytest.raises(ConfigError, match=f"unknown key '{key}' in .*mine.yaml.*{near}"):
        load_config("SASRec", "demo", [path])
    with pytest.raises(ConfigError, match=f"unknown key '{key}' in the command line.*{near}"):
        load_config("SASRec", "demo", overrides={key: 1})


@pytest.mark.parametrize(("key", "value"), [("MAX_ITEM_LIST_LENGTH", 10.5), ("epochs", 1e3)])
def test_what_is_counted_is_a_whole_number(key, value):
    said = re.escape(f"'{key}' in the command line is {value!r}, but it has to be a whole number")
    with pytest.raises(ConfigError, match=said):
        load_config("MMM4Rec", "demo", overrides={key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", []),
        ("metrics", ["NDCG", 3]),
        ("topk", [10.5]),
        ("topk", 0),
        ("valid_metric", None),
    ],
)
def test_malformed_metrics_are_refused_by_their_key(key, value):
    with pytest.raises(ConfigError, match=re.escape(f"'{key}' is {value!r}, but it has to be a")):
        load_config("MMM4Rec", "demo", overrides={key: value})


def test_a_file_in_another_encoding_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("# café\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="'latin.yaml' is not in UTF-8"):
        load_config("MMM4Rec", "demo", ["latin.yaml"])


@pytest.mark.parametrize(
    ("key", "limit", "values"),
    [
        *((key, "> 0", [0, -1]) for key in ("MAX_ITEM_LIST_LENGTH", "train_batch_size")),
        *((key, "> 0", [0, -8]) for key in ("hidden_size", "head_dim", "feature_dimension")),
        *((key, "> 0", [0, -2]) for key in ("n_layers", "n_heads")),
        *((key, "> 0", [0.0, -0.1, float("nan")]) for key in ("temperature", "learning_rate")),
        ("hidden_dropout_prob", "in [0, 1)", [-0.1, 1, 1.5]),
        ("time_dropout_prob", "in [0, 1)", [1.0]),
        ("epochs", ">= 0", [-1]),
        ("inner_size", ">= 0", [-1]),
    ],
)
def test_a_number_out_of_its_limits_is_refused(key, limit, values):
    for value in values:
        said = re.escape(f"'{key}' in the command line is {value!r}, but it has to be {limit}")
        with pytest.raises(ConfigError, match=said):
            load_config("MMM4Rec", "demo", overrides={key: value})


def test_zero_is_no_error_where_it_has_a_meaning():
    zeros = ("epochs", "inner_size", "length_group_size", "hidden_dropout_prob", "weight_decay")
    values = {**dict.fromkeys(zeros, 0), "feature_dimension": None, "dropout_probs": [0.2, 0.2]}

    config = load_config("MMM4Rec", "demo", overrides=values)

    assert all(config[key] == value for key, value in values.items())


def test_every_limit_is_of_a_known_key():
    for pattern in LIMITS:
        assert any(fnmatchcase(key, pattern) for key in known_keys()), pattern


def test_an_unknown_key_that_resembles_none_is_refused_with_the_place_of_all():
    with pytest.raises(ConfigError, match=f"'zzzzzz'.*{properties_dir()}"):
        load_config("SASRec", "demo", overrides={"zzzzzz": 1})


@pytest.mark.parametrize("key", ["encoding", "alias_of_item_id", "verbose", "tail_ratio"])
def test_keys_that_recbole_reads_without_a_property_file_are_known(key):
    load_config("SASRec", "demo", overrides={key: None})


def test_keys_of_a_group_of_processes_are_refused():
    with pytest.raises(ConfigError, match="'nproc' in the command line: .*torchrun"):
        load_config("SASRec", "demo", overrides={"nproc": 2})


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("sasrec", "unknown model 'sasrec': did you mean 'SASRec'"),
        ("MMM4rec", "unknown model 'MMM4rec': did you mean 'MMM4Rec'"),
        ("Nonsense-9", "Ours are MISSRec, MMM4Rec.*; RecBole's sequential models are BERT4Rec"),
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
        ({"metrics": ["Precission"]}, "There is no metric named 'Precission'"),
        ({"topk": [0]}, "has to be a list of whole numbers > 0"),
        ({"repeatable": False}, "set `repeatable` as `True`"),
        ({"epochs": "ten"}, "'epochs' in the command line is 'ten', but it is a number: 8 by"),
        ({"epochs": None}, "'epochs' in the command line is None, but it is a number: 8 by"),
        ({"use_gpu": "nope"}, "'use_gpu' .* is 'nope', but it is True or False"),
        ({"valid_metric": "NDCG"}, r"valid_metric 'NDCG' is not measured: .* \[5, 10, 20\]"),
        ({"valid_metric": "NDCG@7"}, r"valid_metric 'NDCG@7' is not measured: .* \[5, 10, 20\]"),
        (
            {"metrics": ["Recall"]},
            r"valid_metric 'NDCG@10' is not measured: metrics are \['Recall'",
        ),
    ],
)
def test_a_value_that_cannot_be_used_is_a_config_error(overrides, message):
    with pytest.raises(ConfigError, match=message):
        load_config("SASRec", "demo", overrides=overrides)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "holds no `key: value` lines"),
        ("a: [1\n", "is no yaml"),
        ("epochs: 1\nseed: 2\nepochs: 3\n", "has the key 'epochs' in line 1 and again in line 3"),
        ("stages:\n  - {seed: 1, seed: 2}\n", "has the key 'seed' in line 2 and again in line 2"),
    ],
)
def test_a_config_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)

    with pytest.raises(ConfigError, match=f"bad.yaml' {message}"):
        load_config("SASRec", "demo", [path])


def test_a_missing_config_file_is_named():
    with pytest.raises(ConfigError, match="'nowhere.yaml': No such file"):
        load_config("SASRec", "demo", ["nowhere.yaml"])


def test_an_empty_config_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing yet\n")

    config = load_config("SASRec", "demo", [path])

    assert config.final_config_dict == load_config("SASRec", "demo").final_config_dict


@pytest.mark.parametrize("dataset", ["demo", "ml-100k"])
def test_a_config_survives_plain_yaml_json_and_a_safe_checkpoint(tmp_path, dataset):
    config = load_config("SASRec", dataset, overrides={"learning_rate": np.float64(0.01)})

    plain = config_to_plain(config)
    torch.save(plain, tmp_path / "config.pth")
    through_yaml = yaml.safe_load(yaml.safe_dump(plain))
    through_torch = torch.load(tmp_path / "config.pth", weights_only=True)

    for again in (through_yaml, through_torch):
        assert config_from_plain(again).final_config_dict == config.final_config_dict


def test_a_config_with_a_live_object_is_refused_by_key():
    config = load_config("SASRec", "demo")
    config["callback"] = print

    with pytest.raises(TypeError, match=r"config\['callback'\].*builtin_function_or_method"):
        config_to_plain(config)


def test_every_key_of_our_property_files_is_known():
    for path in properties_dir().glob("*/*.yaml"):
        assert set(yaml.safe_load(path.read_text()) or {}) <= known_keys(), path


@pytest.mark.parametrize("use_gpu, device", [(True, "cuda"), (False, "cpu")])
def test_without_use_gpu_a_run_stays_on_the_cpu(monkeypatch, use_gpu, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # the configuration writes it
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    config = load_config("MMM4Rec", "demo", config_dict={"use_gpu": use_gpu})
    assert config["device"].type == device


@pytest.mark.parametrize("model", [*MODELS, *recbole_models("sequential")])
def test_a_model_reads_the_keys_of_its_own_file(model):
    roots = (RECBOLE_DIR / "properties", properties_dir())
    files = [path for root in roots if (path := root / f"model/{model}.yaml").is_file()]
    own = {key for path in files for key in yaml.safe_load(path.read_text()) or ()}
    assert keys_of_other_models(model, {*own, "epochs", "loss_type", "freeze"}) == []
