"""Checks of the values of a configuration, before anything is loaded.

Every value of every layer is checked against the form of its key (:mod:`recbole_mm.config.forms`),
which is defined in one place: the key's line in the model's property file, else in
``multi_modal.yaml``, else in our ``overall.yaml``, else in ``recbole_keys.yaml``, else in RecBole's
own property files.
"""

from collections.abc import Collection
from importlib.util import find_spec
from reprlib import Repr

from recbole_mm.config.columns import FIELDS
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.forms import either, fault
from recbole_mm.config.keys import ALIAS, keys_of_other_models
from recbole_mm.config.kinds import KINDS, Form
from recbole_mm.config.property_files import (
    RECBOLE_KEYS,
    forms_in,
    joined,
    properties_dir,
    property_files,
    recbole_property_files,
    values_in,
)
from recbole_mm.tools.names import nearest

METRICS_OF_LABELS = ("auc", "logloss", "mae", "rmse")
"""RecBole's metrics that compare scores with labels."""

METRICS_OF_SCORES = ("auc", "gauc", "logloss", "mae", "rmse")
"""RecBole's metrics without ``@k``."""

FILES = ("inter", "user", "item", "kg", "link", "net")
"""Suffixes of the files that RecBole reads; ``additional_feat_suffix`` names further ones."""

PACKAGES_OF_TRACKERS = ("wandb", "mlflow", "trackio")
"""Values of ``tracker`` that are separate packages; TensorBoard comes with RecBole."""

TRANSFORMS = {
    "mask_itemseq": "mask_ratio", "crop_itemseq": "crop_eta", "reorder_itemseq": "reorder_beta",
}  # fmt: skip
"""RecBole's sequence transforms, and the key that each reads."""

MOST_HEADS = 64
"""Maximum number of heads that a message suggests."""

_short = Repr()
_short.maxstring = _short.maxother = 120
_short.maxlist = _short.maxdict = 8


def refuse_wrong_values(
    values: dict, source: str, model: str, defaults: dict | None = None
) -> None:
    """Check each value against the form of its key; keys without one pass.

    Args:
        values: values of one layer.
        source: source of the layer, for the message.
        model: model that determines the forms.
        defaults: default values, for the message.

    Raises:
        ConfigError: a value is wrong; the message names the source, the key, the value, what it
            must be, and the default.
    """
    forms, defaults = forms_for(model), defaults or {}
    for key, value in values.items():
        form = forms.get(f"{ALIAS}item_id" if str(key).startswith(ALIAS) else key)
        wrong = form and fault(form, value)
        if wrong:
            default = f" (default: {_short.repr(defaults[key])})" if key in defaults else ""
            raise ConfigError(f"{source}: {key!r} is {_short.repr(value)}; {wrong}{default}")


def forms_for(model: str) -> dict[str, Form]:
    """The form of every key that a model's runs read."""
    recbole, ours = recbole_property_files(model), property_files(model)
    forms, defaults = joined(map(forms_in, recbole)), joined(map(values_in, recbole))
    for key, form in forms_in(properties_dir() / RECBOLE_KEYS).items():
        if defaults.get(key) is None or fault(form, defaults[key]) is None:
            forms[key] = form
    forms |= joined(map(forms_in, ours))
    for path in (*recbole, *ours):
        for key in [key for key, value in values_in(path).items() if value is None]:
            forms[key] = either([forms[key], KINDS["None"]])
    return forms


def refuse_contradictions(config) -> None:
    """Check that keys are consistent; RecBole would only notice during training.

    Raises:
        ConfigError: ``valid_metric`` is not measured, two of the columns for users, items and times
            are the same, columns are named of a file that RecBole does not read, the number of
            already split files is neither two nor three, a pairwise loss has no negative samples,
            pre-training is of low rank, gradients would be changed in two incompatible ways, or a
            package that a key requires is not installed.
    """
    _refuse_unmeasured_valid_metric(config)
    _refuse_one_column_for_two(config)
    _refuse_unknown_files(config)
    _refuse_unusable_parts(config["benchmark_filename"])
    samples = config["train_neg_sample_args"]["distribution"]
    if config["loss_type"] == "BPR" and samples == "none":
        raise ConfigError(
            "loss_type: BPR compares an item with a negative sample, but train_neg_sample_args is "
            "empty: remove that key, or set loss_type: CE"
        )
    _refuse_unequal_heads(config)
    _refuse_two_changes_of_gradients(config)
    needed = TRANSFORMS.get(config["transform"])
    if needed and config[needed] is None:
        raise ConfigError(
            f"transform: {config['transform']} needs {needed}: give a share, e.g. --{needed}=0.2"
        )
    if config["lora_rank"] and config["train_stage"] == "pretrain":
        raise ConfigError(
            f"lora_rank: {config['lora_rank']} in a stage of pre-training, whose weights are random: set "
            f"it only in the finetune stage"
        )
    if config["log_wandb"] and find_spec("wandb") is None:
        raise ConfigError("log_wandb: True needs wandb: pip install wandb")
    tracker = config["tracker"]
    if tracker in PACKAGES_OF_TRACKERS and find_spec(tracker) is None:
        raise ConfigError(f"tracker: {tracker} needs {tracker}: pip install {tracker}")


def _refuse_two_changes_of_gradients(config) -> None:
    steps = config["gradient_accumulation_steps"] or 1
    accumulated = f"gradient_accumulation_steps: {steps}" if steps > 1 else ""
    clipped = "clip_grad_norm" if config["clip_grad_norm"] else ""
    scaled = "enable_scaler: True" if config["enable_scaler"] else ""
    graphs = "cuda_graphs: True" if config["cuda_graphs"] else ""
    for first, second, why in (
        (accumulated, scaled, "which rescales the gradients at every batch"),
        (accumulated, clipped, "which clips the sum so far after every batch"),
        (accumulated, graphs, "which overwrites the gradients at every batch"),
        (scaled, clipped, "which clips the gradients while they are scaled"),
    ):
        if first and second:
            raise ConfigError(f"{first} does not work with {second}, {why}: remove one of them")


def _refuse_unequal_heads(config) -> None:
    """Check the heads of a model with attention; the message names compatible values."""
    width, heads = config["hidden_size"], config["n_heads"]
    if not width or not heads or keys_of_other_models(config["model"], ["n_heads", "hidden_size"]):
        return
    if width % heads:
        possible = [n for n in range(1, min(width, MOST_HEADS) + 1) if width % n == 0]
        raise ConfigError(
            f"hidden_size {width} cannot be divided among n_heads {heads}: set hidden_size to "
            f"{width // heads * heads or heads} or {(width // heads + 1) * heads}, or n_heads to one "
            f"of {', '.join(map(str, possible))}"
        )


def _refuse_unknown_files(config) -> None:
    known = (*FILES, *(config["additional_feat_suffix"] or ()))
    for key in ("load_col", "unload_col", "unused_col"):
        for suffix in config[key] or ():
            if suffix not in known:
                near = nearest(suffix, known)
                hint = f"did you mean {near[0]!r}?" if near else f"they are {', '.join(known)}"
                raise ConfigError(f"{key!r} names columns of a file {suffix!r}; {hint}")


def _refuse_unusable_parts(names: list[str] | str | None) -> None:
    if names is None:
        return
    is_list = isinstance(names, list)
    if not is_list or len(names) not in (2, 3) or len(set(names)) < len(names):
        raise ConfigError(
            f"benchmark_filename {names}: name the files of training, validation and test, or those "
            f"of training and test, as in [train, valid, test]"
        )


def _refuse_one_column_for_two(config) -> None:
    names = {key: config[key] for key in FIELDS}
    if len(set(names.values())) < len(names):
        listed = ", ".join(f"{key}={name}" for key, name in names.items())
        raise ConfigError(f"{listed}: users, items and times must be different columns")


def refuse_unfit_metrics(values: dict, known: Collection[str]) -> None:
    """Refuse incompatible metrics: those of ranks and of labels exclude each other, and each kind
    needs its own modes.

    Args:
        values: values of all keys, before RecBole reads them, since its messages name no key.
        known: existing metrics, in lower case.

    Raises:
        ConfigError: metrics, or metrics and mode, are incompatible.
    """
    metrics, mode = values["metrics"], values["eval_args"]["mode"]
    metrics = [metrics] if isinstance(metrics, str) else metrics
    for name in metrics:
        if name.lower() not in known:
            near = nearest(name, known)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
            raise ConfigError(f"metrics: unknown metric {name!r}; {hint}")
    modes = mode.values() if isinstance(mode, dict) else [mode]
    labels = ", ".join(name for name in metrics if name.lower() in METRICS_OF_LABELS)
    ranks = ", ".join(name for name in metrics if name.lower() not in METRICS_OF_LABELS)
    if "labeled" in modes and ranks:
        raise ConfigError(
            f"eval_args: mode: labeled compares scores with labels, so {ranks} cannot be "
            f"measured: use metrics and valid_metric from {', '.join(METRICS_OF_LABELS)}, or mode: full"
        )
    if labels and ranks:
        raise ConfigError(
            f"metrics: {labels} compare scores with labels and {ranks} rank items: measure one kind "
            f"at a time"
        )
    if labels and "full" in modes:
        raise ConfigError(
            f"metrics: {labels} compare scores with labels, but eval_args: mode: full ranks items "
            f"without labels: use mode: labeled or uni100, or metrics such as NDCG"
        )


def _refuse_unmeasured_valid_metric(config) -> None:
    name, _, k = str(config["valid_metric"]).lower().partition("@")
    metrics = [metric.lower() for metric in config["metrics"]]
    has_k = name not in METRICS_OF_SCORES
    if name not in metrics or (k not in map(str, config["topk"]) if has_k else k):
        raise ConfigError(
            f"valid_metric {config['valid_metric']!r} is not measured: metrics are "
            f"{config['metrics']} at topk {config['topk']}; add it there or choose one of these"
        )
