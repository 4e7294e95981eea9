"""Keys under which the same parameters rank items in another way are known to every model."""

import pytest
import torch
from recbole.utils import get_model
from tiny import TINY

from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import joined, model_files, values_in
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.transfer.pretrained import TransferError

SMALL = {**TINY, "epochs": 1, "head_dim": 8, "d_state": 4, "n_groups": 2, "n_heads": 2}
OTHER = {
    "item_mm_fusion": ["static", "dynamic_shared", "dynamic_instance"],
    "seq_mm_fusion": ["add", "contextual"],
    "interest_clustering": ["kmeans", "dpc_knn"],
    "hidden_act": ["gelu", "relu"],
    "cross_activation": ["silu", "hardswish"],
    "ssd_skip": ["dt_x", "x"],
    "ssd_backend": ["auto", "torch"],
    "query_time": ["none", "request"],
    "time_input": ["log_intervals", "intervals"],
    "time_init": ["identity", "normal"],
    "adapter_bias_init": ["normal", "zero"],
    "softmax": ["trained", "full"],
    "item_drop_view": ["intended", "released"],
    "learner": ["adam", "sgd"],
    "loss_positions": ["last", "all"],
    "repeat_propensity": ["none", "shared"],
}
OF_THE_SETTING = {
    "modalities", "use_item_id", "train_stage", "released", "word_drop_features", "MAX_ITEM_LIST_LENGTH",
    "train_neg_sample_args", "loss_type", "no_weight_decay", "group_learning_rates", "same_domain_negatives",
}  # fmt: skip
"""What is learned or read, or how: named by every stage, or without a second value here."""
OF_ONE_DATA_SET = {
    "item_mm_fusion", "untrained_id", "interest_clustering", "interest_ratio", "interest_iterations",
    "interest_neighbors", "recluster_every",
}  # fmt: skip
"""They act on parameters that are not transferred."""


def another_value(key, value):
    if key in OTHER:
        return next(other for other in OTHER[key] if other != value)
    if isinstance(value, bool):
        return not value
    if key.endswith("_eps"):
        return 0.1
    if value is None:  # length_group_size
        return 2
    return value // 2 or 2 if isinstance(value, int) else value / 2 or 0.5


def ranking(toy, model, state, **settings):
    """How a model with these parameters ranks; ``None`` if they do not fit it."""
    run = Run(load_config(model, config_dict={**toy, **fitting(model, SMALL), **settings}))
    try:
        run.model.load_state_dict(state)
    except RuntimeError:  # other shapes
        return None
    run.model.eval()
    batch = next(iter(run.splits.test))[0].to(run.config["device"])
    with torch.no_grad():
        return run.model.full_sort_predict(batch)[:, 1:].argsort(dim=1)


def fitting(model, settings):
    in_yaml = joined(map(values_in, model_files(model)))
    common = {"epochs", "show_progress", "train_batch_size", "MAX_ITEM_LIST_LENGTH"}
    return {key: value for key, value in settings.items() if key in in_yaml or key in common}


@pytest.fixture
def toy_with_gaps(toy):
    """Some items lack a modality."""
    path = feature_path(f"{toy['data_path']}/toy", "toy", "image")
    tokens = [f"i{item}" for item in range(8)]
    values = read_item_features(path, ["[PAD]", *tokens]).values[1:].numpy()
    write_item_features(path, tokens, values)
    return toy


@pytest.mark.parametrize("model", MODELS)
def test_a_key_that_changes_the_ranking_of_the_same_parameters_is_a_function_key(
    toy_with_gaps, model
):
    keys = joined(map(values_in, model_files(model)))
    base = {"use_item_id": False, "modalities": ["text", "image"]}
    if "use_time" in keys:
        base["use_time"] = True
    torch.manual_seed(0)
    run = Run(load_config(model, config_dict={**toy_with_gaps, **fitting(model, SMALL), **base}))
    run.model.eval()
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.normal_(std=0.5)
    state = run.model.state_dict()
    if "interests.lookup" in state:
        run.model.update_interests()
        state = run.model.state_dict()
    expected = ranking(toy_with_gaps, model, state, **base)

    changing = set()
    for key in keys.keys() - OF_THE_SETTING - OF_ONE_DATA_SET:
        value = {**keys, **fitting(model, SMALL), **base}[key]
        other = another_value(key, value)
        try:
            ranked = ranking(toy_with_gaps, model, state, **{**base, key: other})
        except ValueError:  # refused, or widths that do not divide
            continue
        if ranked is not None and not torch.equal(ranked, expected):
            changing.add(key)

    assert changing <= set(get_model(model).function_keys)


def test_a_start_under_another_function_is_refused_unless_it_is_named(toy):
    settings = {**toy, **fitting("UniSRec", SMALL)}
    path = fit_and_evaluate(load_config("UniSRec", config_dict=settings), verbose=False).checkpoint
    later = {**settings, "pre_model_path": path, "n_heads": 4}

    with pytest.raises(TransferError, match="n_heads: 2 in the checkpoint, 4 here"):
        Run(load_config("UniSRec", config_dict=later))
    Run(load_config("UniSRec", config_dict={**later, "allow_changed_keys": ["n_heads"]}))
    with pytest.raises(TransferError, match="'learner'.* can differ anyway"):
        Run(load_config("UniSRec", config_dict={**later, "allow_changed_keys": ["learner"]}))


def test_a_checkpoint_from_before_a_key_has_the_function_that_it_had(toy):
    settings = {**toy, **fitting("MISSRec", SMALL)}
    path = fit_and_evaluate(load_config("MISSRec", config_dict=settings), verbose=False).checkpoint
    earlier = torch.load(path, weights_only=True)
    del earlier["config"]["causal"]
    torch.save(earlier, "earlier.pth")
    later = {**settings, "pre_model_path": "earlier.pth"}

    Run(load_config("MISSRec", config_dict=later))
    with pytest.raises(TransferError, match="causal: False in the checkpoint, True here"):
        Run(load_config("MISSRec", config_dict={**later, "causal": True}))
