"""From yaml files and a command line to RecBole's Config, and from a Config to plain data.

The layers, later ones win::

    RecBole's defaults < properties/overall.yaml < properties/model/<Model>.yaml
        < properties/dataset/<data set>.yaml < config files < config dict < stage < command line
"""

import ast
import difflib
import os
import re
from collections.abc import Iterable
from enum import Enum
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import numpy as np
import recbole
import torch
import yaml
from recbole.config import Config
from recbole.utils import ModelType
from recbole.utils.argument_list import (
    dataset_arguments,
    evaluation_arguments,
    general_arguments,
    training_arguments,
)

from recbole_mm import processes

COMMAND_LINE = "the command line"
RECBOLE_DIR = Path(recbole.__file__).parent

SET_BY_RECBOLE = (
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank",
    "valid_neg_sample_args", "test_neg_sample_args", "valid_metric_bigger",
)  # fmt: skip
"""What Config derives from the other keys and from the machine; no part of a plain config."""

METRICS_OF_SCORES = ("auc", "gauc", "logloss", "mae", "rmse")
"""RecBole's metrics that have no ``@k``."""

PROCESS_KEYS = ("nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank")
"""RecBole's keys for a group of processes; ours are started by torchrun."""


LIMITS = {
    **dict.fromkeys(("MAX_ITEM_LIST_LENGTH", "train_batch_size", "eval_batch_size"), "> 0"),
    **dict.fromkeys(("embedding_size", "feature_dimension", "hidden_size", "head_dim"), "> 0"),
    **dict.fromkeys(("d_conv", "d_state", "expand", "n_groups", "n_heads", "n_layers"), "> 0"),
    **dict.fromkeys(("gradient_accumulation_steps", "interest_iterations"), "> 0"),
    **dict.fromkeys(("interest_neighbors", "learning_rate", "temperature"), "> 0"),
    **dict.fromkeys(("epochs", "inner_size", "length_group_size"), ">= 0"),
    **dict.fromkeys(("ema_epochs", "recluster_every", "weight_decay"), ">= 0"),
    "untrained_id": "in [0, 1]",
    "*dropout*": "in [0, 1)",
    "*_drop_*": "in [0, 1]",
}
"""Key, or a pattern of keys: what a number under it has to be."""

WHOLE = (
    "MAX_ITEM_LIST_LENGTH", "d_conv", "d_state", "embedding_size", "epochs", "eval_batch_size",
    "eval_step", "feature_dimension", "gradient_accumulation_steps", "head_dim", "hidden_size",
    "inner_size", "interest_iterations", "interest_neighbors", "length_group_size", "n_groups",
    "n_heads", "n_layers", "seed", "stopping_step", "topk", "train_batch_size",
)  # fmt: skip
"""Keys of whole numbers."""

WITHIN = {
    "> 0": lambda x: x > 0,
    ">= 0": lambda x: x >= 0,
    "in [0, 1)": lambda x: 0 <= x < 1,
    "in [0, 1]": lambda x: 0 <= x <= 1,
}

SEARCH_SPACE_WORDS = ("choice", "uniform", "quniform", "loguniform")
"""HyperTuning reads these from its search space, not from a configuration."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message names the key, its source and the fix."""


class RunConfig(Config):
    """RecBole's Config without the host process in it.

    It never reads ``sys.argv`` (which may be pytest's or a notebook's), takes the values of its
    dict as they are instead of evaluating strings, and layers our property files for RecBole's
    own models too, so that all are compared under one protocol.
    """

    def _load_cmd_line(self):
        return {}

    def _load_variable_config_dict(self, config_dict):
        return dict(config_dict or {})

    def _init_device(self):
        if not self.final_config_dict["use_gpu"]:  # which RecBole itself looks at nowhere
            self.final_config_dict["gpu_id"] = ""
        if processes.size() > 1 and self.final_config_dict["gpu_id"] != "":
            # one GPU for each process; RecBole would make this one visible to all
            self.final_config_dict["gpu_id"] = os.environ["CUDA_VISIBLE_DEVICES"]
        super()._init_device()

    def _load_internal_config_dict(self, model, model_class, dataset):
        super()._load_internal_config_dict(model, model_class, dataset)
        layer_property_files(self, model, dataset)
        if model in recbole_models():
            self.internal_config_dict["modalities"] = []  # they read no item features of ours
        # RecBole's sequential models default to the softmax and to a negative sample, together an
        # error; the sample has to go unless the user asks for one.
        merged = {**self.internal_config_dict, **self.external_config_dict}
        if merged["MODEL_TYPE"] == ModelType.SEQUENTIAL and merged.get("loss_type") == "CE":
            self.internal_config_dict["train_neg_sample_args"] = None


def properties_dir() -> Path:
    """The folder of our yaml files: installed inside the package, in a checkout beside it."""
    package = Path(__file__).resolve().parent
    installed = package / "properties"
    return installed if installed.is_dir() else package.parent / "properties"


def property_files(model: str, dataset: str) -> list[Path]:
    """Our yaml files for a model on a data set that exist, in the order in which they apply."""
    root = properties_dir()
    names = ("overall.yaml", f"model/{model}.yaml", f"dataset/{dataset}.yaml")
    return [root / name for name in names if (root / name).is_file()]


def layer_property_files(config: Config, model: str, dataset: str):
    """Put our property files over RecBole's defaults in ``config.internal_config_dict``."""
    for path in property_files(model, dataset):
        config._update_internal_config_dict(path)


def load_config(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    stage: dict | None = None,
    overrides: dict | None = None,
) -> RunConfig:
    """One Config from all layers.

    Args:
        model: name of a model of ours or of RecBole; without it some layer must name it.
        dataset: name of a data set, likewise.
        config_files: yaml files, later ones win.
        config_dict: values given by a program.
        stage: the overlay of one stage of a run.
        overrides: the command line's values (:func:`parse_overrides`).

    Raises:
        ConfigError: a file is missing or is no mapping, a key is unknown, the model or the data
            set is not named or not known, a number is given as text or is out of its
            :data:`LIMITS`, ``valid_metric`` is none of the metrics, or RecBole refuses a value.
    """
    layers = [(str(path), _read_yaml(path)) for path in config_files]
    layers += [
        ("config_dict", config_dict or {}),
        ("the stage", stage or {}),
        (COMMAND_LINE, overrides or {}),
    ]
    for source, values in layers:
        refuse_unknown_keys(values, source)
    merged = {key: value for _, values in layers for key, value in values.items()}
    if merged.pop("stages", None) and stage is None:
        raise ConfigError("this configuration lists stages: run them with run_stages")
    named = {"model": model or merged.pop("model", None)}
    named["dataset"] = dataset or merged.pop("dataset", None)
    for key, value in named.items():
        if not value:
            raise ConfigError(f"no {key} is named: give --{key}=NAME (or `{key}:` in a yaml file)")
    merged.pop("config_files", None)
    _refuse_unknown_model(str(named["model"]))
    _refuse_malformed_metrics(merged)
    try:
        config = RunConfig(str(named["model"]), str(named["dataset"]), config_dict=merged)
    except KeyError as error:
        raise ConfigError(f"RecBole misses the value of {error}") from error
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    for source, values in layers:
        _refuse_text_for_a_number(values, source, config.internal_config_dict)
        _refuse_number_out_of_limits(values, source)
    _refuse_unmeasured_valid_metric(config)
    return config


def read_layers(config_files=(), config_dict: dict | None = None) -> dict:
    """The values of the files and of the dict, as they stand there; later ones win."""
    layers = [_read_yaml(path) for path in config_files] + [config_dict or {}]
    return {key: value for values in layers for key, value in values.items()}


def parse_overrides(arguments) -> dict:
    """``--key=value`` and ``--key value`` as a dict of Python values.

    A value is a Python literal, else what yaml reads (``~``, ``true``, ``[text, image]``,
    ``1e-3``), else the string itself. It may hold spaces and ``=``.

    Raises:
        ConfigError: something is no option, an option has no value, or it stands there twice with
            different values.
    """
    overrides = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(f"{argument!r} is no option: write --key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} has no value: write --{key}=VALUE, e.g. --{key}=True")
            value = rest.pop(0)
        parsed = parse_value(value)
        if key in overrides and overrides[key] != parsed:
            raise ConfigError(f"--{key} is given twice: {overrides[key]!r} and {parsed!r}")
        overrides[key] = parsed
    return overrides


def parse_value(text: str):
    """The Python value of an option's text; see :func:`parse_overrides`."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        value = yaml.load(text, Loader=_yaml_loader())
    except yaml.YAMLError:
        return text
    # An empty value stays empty; a date or a mapping with live objects stays text.
    return value if text and not isinstance(value, str) and _is_plain(value) else text


def refuse_unknown_keys(values: dict, source: str):
    """Raise when a key is known neither to RecBole nor to us.

    Raises:
        ConfigError: names the key, its source and the nearest known key.
    """
    for key in values:
        if key in PROCESS_KEYS:
            raise ConfigError(
                f"{key!r} in {source}: processes are started by torchrun; leave the key out"
            )
        if key in known_keys() or str(key).startswith("alias_of_"):
            continue
        if key in keys_read_by_recbole():
            continue
        near = nearest(str(key), known_keys() | keys_read_by_recbole(), n=3)
        hint = f"the keys and what they do are in {properties_dir()}"
        if near:
            hint = f"did you mean {' or '.join(map(repr, near))}?"
        raise ConfigError(f"unknown key {key!r} in {source}: {hint}")


def _refuse_text_for_a_number(values: dict, source: str, defaults: dict):
    for key, value in values.items():
        default = defaults.get(key)
        no_number = isinstance(value, str) or value is None
        if no_number and isinstance(default, (bool, int, float)):
            wanted = "True or False" if isinstance(default, bool) else "a number"
            raise ConfigError(
                f"{key!r} in {source} is {value!r}, but it is {wanted}: {default} by default"
            )


def _refuse_number_out_of_limits(values: dict, source: str):
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if key in WHOLE and not isinstance(value, int):
            raise ConfigError(f"{key!r} in {source} is {value!r}, but it has to be a whole number")
        for pattern, limit in LIMITS.items():
            if fnmatchcase(key, pattern) and not WITHIN[limit](value):
                raise ConfigError(f"{key!r} in {source} is {value!r}, but it has to be {limit}")


def _refuse_malformed_metrics(values: dict):
    """What RecBole would fail at without a word on the key."""

    def listed(key):
        value = values.get(key)
        return list(value) if isinstance(value, (list, tuple)) else [value]

    for key, wanted, good in (
        ("metrics", "a list of names like [Recall, NDCG]", lambda x: isinstance(x, str)),
        ("topk", "a list of whole numbers > 0", lambda x: type(x) is int and x > 0),
        ("valid_metric", "a name like NDCG@10", lambda x: isinstance(x, str)),
    ):
        if key in values and not (listed(key) and all(map(good, listed(key)))):
            raise ConfigError(f"{key!r} is {values[key]!r}, but it has to be {wanted}")


def _refuse_unmeasured_valid_metric(config: Config):
    """RecBole would find out after the first epoch."""
    name, _, k = str(config["valid_metric"]).lower().partition("@")
    topk = config["topk"] if isinstance(config["topk"], (list, tuple)) else [config["topk"]]
    metrics = [metric.lower() for metric in config["metrics"]]
    of_lists = name not in METRICS_OF_SCORES
    if name not in metrics or (k not in map(str, topk) if of_lists else k):
        raise ConfigError(
            f"valid_metric {config['valid_metric']!r} is not measured: metrics are "
            f"{config['metrics']} at topk {list(topk)}; add it there or choose one of these"
        )


def known_keys() -> set[str]:
    """Every key of RecBole's and of our property files and of RecBole's argument lists."""
    if not _known_keys:
        _known_keys.update(
            ("model", "dataset", "config_files", "stages"),
            general_arguments,
            training_arguments,
            evaluation_arguments,
            dataset_arguments,
        )
        for path in sorted((RECBOLE_DIR / "properties").rglob("*.yaml")) + sorted(
            properties_dir().rglob("*.yaml")
        ):
            # RecBole's lists of downloads, by data set; and our lists of stages, which are checked
            if "url" not in path.name and path.parent.name != "transfer":
                _known_keys.update(_read_yaml(path))
    return _known_keys


def keys_read_by_recbole() -> set[str]:
    """Keys that stand in no property file although RecBole's code reads them."""
    if not _keys_read:
        _keys_read.update(*map(_keys_in, RECBOLE_DIR.rglob("*.py")))
        _keys_read.difference_update(SET_BY_RECBOLE, PROCESS_KEYS, SEARCH_SPACE_WORDS)
    return _keys_read


def keys_of_other_models(model: str, keys) -> list[str]:
    """Those of ``keys`` that other models read, but neither this one nor what all have in common.

    Args:
        model: of ours or RecBole's.
        keys: known ones.
    """
    roots = (RECBOLE_DIR / "properties", properties_dir())
    of_models = {key for root in roots for p in root.glob("model/*.yaml") for key in _read_yaml(p)}
    candidates = of_models & set(keys)
    if not candidates:
        return []
    files = [root / name for root in roots for name in ("overall.yaml", f"model/{model}.yaml")]
    read = {key for path in files if path.is_file() for key in _read_yaml(path)}
    read.update(general_arguments, training_arguments, evaluation_arguments, dataset_arguments)
    for path in RECBOLE_DIR.rglob("*.py"):
        if not path.parent.name.endswith("_recommender") or path.stem == model.lower():
            read |= _keys_in(path)
    return sorted(candidates - read)


@cache
def _keys_in(path: Path) -> set[str]:
    """Keys that a file of RecBole's code reads from its configuration."""
    pattern = r"""config(?:_dict)?(?:\[|\.get\(\s*)["'](\w+)["']"""
    return set(re.findall(pattern, path.read_text(encoding="utf-8")))


_known_keys: set[str] = set()
_keys_read: set[str] = set()


def config_to_plain(config: Config) -> dict:
    """The configuration as data that yaml, JSON and ``torch.load(weights_only=True)`` can hold.

    What RecBole derives from the machine or from other keys is left out;
    :func:`config_from_plain` derives it again.

    Raises:
        TypeError: a value is neither a number, a string, a bool, None nor a list, tuple or dict of
            these; the message names the key.
    """
    values = {k: v for k, v in config.final_config_dict.items() if k not in SET_BY_RECBOLE}
    plain = {}
    for key, value in values.items():
        try:
            plain[key] = to_plain(value)
        except TypeError as error:
            raise TypeError(f"config[{key!r}] cannot be written as plain data: {error}") from None
    # RecBole has joined the data set's name to the folder and would do so again.
    plain["data_path"] = str(Path(plain["data_path"]).parent)
    if plain["train_neg_sample_args"]["distribution"] == "none":
        plain["train_neg_sample_args"] = None
    return plain


def config_from_plain(plain: dict) -> RunConfig:
    """The Config that :func:`config_to_plain` wrote down, on the device of this machine."""
    values = {k: v for k, v in plain.items() if k not in ("model", "dataset")}
    return RunConfig(plain["model"], plain["dataset"], config_dict=values)


def to_plain(value):
    """A value as numbers, strings, bools, None, and lists and dicts of these.

    Raises:
        TypeError: it is something else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return [to_plain(v) for v in value]
    if isinstance(value, dict):
        return {to_plain(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (Enum, torch.device)):
        return str(value)
    raise TypeError(f"it is a {type(value).__name__}")


def _is_plain(value):
    try:
        return to_plain(value) == value
    except TypeError:
        return False


def _yaml_loader():
    return Config._build_yaml_loader(None)


def _read_yaml(path) -> dict:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"config file {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"config file {str(path)!r} is not in UTF-8: {error}") from None
    try:
        _refuse_repeated_keys(path, yaml.compose(text, Loader=_yaml_loader()))
        values = yaml.load(text, Loader=_yaml_loader())
    except yaml.YAMLError as error:
        raise ConfigError(f"config file {str(path)!r} is no yaml: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {str(path)!r} holds no `key: value` lines")
    return values


def _refuse_repeated_keys(path, node: yaml.Node | None) -> None:
    """yaml keeps the last of two equal keys without a word."""
    if isinstance(node, yaml.MappingNode):
        lines = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ConfigError(
                    f"config file {str(path)!r} has the key {name!r} in line {lines[name]} and "
                    f"again in line {line}; keep one of them"
                )
            lines[name] = line
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_repeated_keys(path, value)


def recbole_models(kind: str = "*") -> list[str]:
    """Names of RecBole's own models, of one kind (``sequential``, ``general``, ...) or all."""
    modules = RECBOLE_DIR.glob(f"model/{kind}_recommender/[a-z]*.py")
    by_lower = {p.stem.lower(): p.stem for p in RECBOLE_DIR.glob("properties/model/*.yaml")}
    return sorted(by_lower[m.stem] for m in modules if m.stem in by_lower)


def needs_item_columns(model: str) -> bool:
    """Whether a model of RecBole reads columns of the ``.item`` file (``selected_features``)."""
    path = RECBOLE_DIR / "properties" / "model" / f"{model}.yaml"
    return path.is_file() and "selected_features" in yaml.safe_load(path.read_text("utf-8"))


def nearest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most ``n`` of the known names that look like this one, whatever their case."""
    by_lower = {other.lower(): other for other in known}
    return [by_lower[x] for x in difflib.get_close_matches(name.lower(), by_lower, n, cutoff)]


def _refuse_unknown_model(model: str):
    ours = sorted(path.stem for path in (properties_dir() / "model").glob("*.yaml"))
    if model in ours or model in recbole_models():
        return
    near = nearest(model, [*ours, *recbole_models()], cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"unknown model {model!r}: {hint}Ours are {', '.join(ours)}; RecBole's sequential models "
        f"are {', '.join(recbole_models('sequential'))}"
    )
