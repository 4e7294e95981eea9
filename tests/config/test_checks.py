import re

import pytest

from recbole_mm.config.checks import forms_for, refuse_wrong_values
from recbole_mm.config.defaults import defaults_for
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.forms import fault
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS, recbole_models
from recbole_mm.config.values import parse_overrides


def refused(model: str, *options: str) -> str:
    with pytest.raises(ConfigError) as error:
        refuse_wrong_values(
            parse_overrides(options), "command line", model, defaults_for(model, "toy")
        )
    return str(error.value)


@pytest.mark.parametrize("model", [*MODELS, *recbole_models()])
def test_every_default_has_the_form_of_its_key(model):
    forms = forms_for(model)
    wrong = {
        key: value for key, value in defaults_for(model, "toy").items() if fault(forms[key], value)
    }
    assert wrong == {}


@pytest.mark.parametrize(
    ("model", "option", "form"),
    [
        ("UniSRec", "--n_experts=2.5", "2.5; it must be a whole number >= 1 (default: 8)"),
        ("MMM4Rec", "--expand=1.5", "1.5; it must be a whole number >= 1 (default: 2)"),
        ("MISSRec", "--recluster_every=0.5", "0.5; it must be a whole number >= 0 (default: 1)"),
        ("MISSRec", "--n_layers=3", "3; it must be a whole number >= 2 and even (default: 2)"),
        ("MISSRec", "--untrained_id=1.1", "1.1; it must be a number >= 0 and <= 1"),
        ("SASRec", "--learning_rate=2024-13-45", "'2024-13-45'; it must be a number > 0"),
        ("SASRec", "--learning_rate=nan", "'nan'; it must be a number > 0"),
        ("SASRec", "--learning_rate=.nan", "nan; it must be a number > 0"),
        ("SASRec", "--encoding=banana", "'banana'; it must be an encoding like utf-8"),
        ("SASRec", "--hidden_dropout_prob=1", "1; it must be a number >= 0 and < 1"),
        ("SASRec", "--hidden_size=64.0", "64.0; it must be a whole number >= 1"),
        ("SASRec", "--epochs=1e3", "1000.0; it must be a whole number >= 0"),
        ("SASRec", "--MAX_ITEM_LIST_LENGTH=0", "0; it must be a whole number >= 1"),
        (
            "MMM4Rec",
            "--softmax=fulll",
            "'fulll'; it must be one of trained, full, all_rows, in_batch",
        ),
        ("MMM4Rec", "--loss_type=BPR", "'BPR'; it must be CE (default: 'CE')"),
        ("MMM4Rec", "--freeze=5", "5; it must be a list of strings or None"),
        ("MMM4Rec", "--freeze=transformer.*", "it must be a list of strings or None"),
        ("MMM4Rec", "--use_item_id=1", "1; it must be True or False"),
        ("MMM4Rec", "--metrics=[]", "[]; it must be a non-empty list of strings or a string"),
        ("MMM4Rec", "--topk=[10.5]", "it must be a non-empty list of whole numbers >= 1 or a"),
        ("MMM4Rec", "--valid_metric=~", "None; it must be a string"),
        ("SASRec", "--load_col=[item_id]", "it must be a mapping {name: value} with lists of"),
        ("SASRec", "--load_col={inter: user_id}", "it must be a mapping {name: value} with lists"),
        ("SASRec", "--user_inter_num_interval=5", '5; it must be a string like "[5,inf)" or None'),
        ("SASRec", "--item_inter_num_interval=[5,]", "it must be a string like"),
        ("SASRec", "--val_interval=[3,inf)", 'with strings like "[3,inf)" or lists of values'),
        ("SASRec", "--clip_grad_norm=5", "5; it must be a mapping with the keys max_norm"),
        ("SASRec", "--clip_grad_norm={norm_type: 2}", "'max_norm' is missing in it"),
        ("SASRec", "--benchmark_filename=train", "it must be a non-empty list of strings"),
        ("SASRec", "--alias_of_my_id=item", "'item'; it must be a list of strings"),
        ("SASRec", "--eval_args={split: {RS: [8, -1, 1]}}", "three ratios >= 0"),
        ("SASRec", "--eval_args={split: {LS: all}}", "{LS: valid_and_test}"),
        ("SASRec", "--eval_args={ordr: TO}", "'ordr' in it is unknown; did you mean 'order'?"),
        ("SASRec", "--eval_args=full", "it must be a mapping with the keys split, order"),
        ("SASRec", "--loss_type=HINGE", "it must be one of CE, BPR"),
    ],
)
def test_a_value_that_its_key_cannot_have_is_refused_with_what_it_must_be(model, option, form):
    key = option[2:].partition("=")[0]

    message = refused(model, option)

    assert message.startswith(f"command line: {key!r} is ")
    assert form in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("MMM4Rec", ["--epochs=0", "--inner_size=0", "--length_group_size=0", "--weight_decay=0"]),
        ("MMM4Rec", ["--feature_dimension=~", "--modalities=text", "--modalities=text"]),
        ("MMM4Rec", ["--feature_dimension=~", "--reset=~", "--load_col=~", "--pre_model_path=~"]),
        ("NARM", ["--dropout_probs=[0.2, 0]", "--topk=10", "--metrics=Recall", "--gpu_id=0,1"]),
        ("SASRec", ["--train_neg_sample_args=~", "--clip_grad_norm={max_norm: 5}"]),
        ("SASRec", ["--user_inter_num_interval=[5,inf)", "--val_interval={rating: '[3,inf)'}"]),
        ("CDAE", ["--loss_type=MSE"]),
        ("BERT4Rec", ["--transform=mask_itemseq", "--mask_ratio=1"]),
        ("ItemKNN", ["--k=50"]),
    ],
)
def test_a_value_with_a_meaning_passes(model, options):
    refuse_wrong_values(parse_overrides(options), "command line", model)


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ("accumulated scaled", "gradient_accumulation_steps: 2", "enable_scaler: True"),
        ("accumulated clipped", "gradient_accumulation_steps: 2", "clip_grad_norm"),
        ("accumulated graphs", "gradient_accumulation_steps: 2", "cuda_graphs: True"),
        ("scaled clipped", "enable_scaler: True", "clip_grad_norm"),
    ],
)
def test_changes_of_gradients_that_do_not_go_together_are_refused_beforehand(
    settings, first, second
):
    values = {
        "accumulated": {"gradient_accumulation_steps": 2},
        "scaled": {"enable_scaler": True},
        "clipped": {"clip_grad_norm": {"max_norm": 1}},
        "graphs": {"cuda_graphs": True},
    }
    given = [values[name] for name in settings.split()]
    for alone in given:
        load_config("MMM4Rec", "toy", config_dict=alone)

    with pytest.raises(ConfigError, match=f"{first} does not work with {second}, which"):
        load_config("MMM4Rec", "toy", config_dict=given[0] | given[1])


def test_a_long_value_is_cut_in_the_message():
    message = refused("MMM4Rec", f"--freeze={'x' * 10_000}")

    assert len(message) < 300
    assert re.search(r"xxx\.\.\.xxx", message)
