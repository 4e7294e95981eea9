"""Keys of a configuration: which exist, and who reads them."""

import re
import runpy
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path

from recbole_mm.config.errors import ConfigError, UnknownKey
from recbole_mm.config.own_models import own_models
from recbole_mm.config.property_files import (
    MULTI_MODAL,
    RECBOLE_DIR,
    keys_in,
    model_files,
    properties_dir,
    property_files,
    recbole_property_files,
    values_in,
)
from recbole_mm.config.stages import LEAVE_ONE_OUT
from recbole_mm.tools.names import nearest

SET_BY_RECBOLE = (
    "MODEL_TYPE", "MODEL_INPUT_TYPE", "eval_type", "device", "single_spec", "local_rank",
    "valid_neg_sample_args", "test_neg_sample_args", "valid_metric_bigger",
)  # fmt: skip
"""Keys that Config derives from other keys and from the machine; a plain config does not have
them."""

PROCESS_KEYS = ("nproc", "world_size", "ip", "port", "offset", "group_offset", "local_rank")
"""RecBole's keys for a group of processes; ours are started by torchrun."""

SEARCH_SPACE_WORDS = ("choice", "uniform", "quniform", "loguniform")
"""Words that HyperTuning reads from its search space, not from a configuration."""

OF_A_RUN = ("model", "dataset", "config_files", "stages", LEAVE_ONE_OUT)
"""Keys that choose what runs."""

SAVED_DATA = ("save_dataset", "dataset_save_path", "save_dataloaders", "dataloaders_save_path")
"""RecBole's keys for data sets and data loaders that it pickles."""

RETIRED = {
    "neg_sampling": "train_neg_sample_args", "training_neg_sample_num": "train_neg_sample_args",
}  # fmt: skip
"""Keys of earlier RecBole releases, which no longer have an effect, and their replacements."""

OF_THIS_MACHINE = ("data_cache",)
"""Keys that name a folder to write to; they are not read from a stored configuration, which may
come from elsewhere."""

CONFIGURATOR = "configurator.py"
"""RecBole's module that creates a Config; it reads keys of models (``loss_type``) for all
models."""

TRAINING_KEYS = (
    "MAX_ITEM_LIST_LENGTH", "learner", "learning_rate", "weight_decay", "train_batch_size", "epochs",
    "stopping_step", "eval_step", "clip_grad_norm",
)  # fmt: skip
"""Keys of training that every model reads."""

ALIAS = "alias_of_"
"""Prefix of RecBole's keys for columns that share ids; the rest of such a key is up to the user."""


def refuse_unknown_keys(keys: Iterable[str], source: str) -> None:
    """Refuse keys that are not known to RecBole, this package or a model of the user.

    Raises:
        UnknownKey: a key is unknown; the message names the source, the key and the nearest known
            keys.
    """
    known = known_keys() | _keys_of_own_models()
    for key in keys:
        if key in PROCESS_KEYS:
            raise ConfigError(f"{source}: {key!r} is not needed; torchrun starts processes")
        if _is_known(key, known):
            continue
        near = nearest(str(key), (known | keys_read_by_recbole()) - RETIRED.keys(), n=3)
        described = f"the keys and what they do are in {properties_dir()}"
        raise UnknownKey(source, key, list(map(repr, near)), described)


def refuse_saved_data(values: dict, source: str) -> None:
    """Refuse to let RecBole pickle its data set or read a pickled one.

    Raises:
        ConfigError: such a key is set; the message names the source and the key.
    """
    given = [key for key in SAVED_DATA if values.get(key)]
    if given:
        raise ConfigError(
            f"{source}: {', '.join(given)}: RecBole's saved data sets are not supported, because "
            f"reading one executes any code in the file, and it is not updated when your data "
            f"change. Remove {'this key' if len(given) == 1 else 'these keys'}; data sets are "
            f"loaded from their .inter, .item and feature files"
        )


def refuse_retired_keys(values: dict, source: str) -> None:
    """Refuse keys that RecBole no longer reads.

    Raises:
        ConfigError: such a key has a value; the message names the source, the key and its
            replacement.
    """
    for key in RETIRED.keys() & values.keys():
        if values[key] is not None:
            raise ConfigError(
                f"{source}: {key!r} has no effect since RecBole 1.1; use {RETIRED[key]!r}"
            )


def keys_of_model(model: str, keys: Iterable[str]) -> list[str]:
    """The ``keys`` that a stored configuration of the model may set: known ones that do not belong
    to another model and do not name a pickled data set or a folder to write to."""
    known, left_out = known_keys() | _keys_of_own_models(), SAVED_DATA + OF_THIS_MACHINE
    kept = [key for key in keys if _is_known(key, known) and key not in left_out]
    others = set(keys_of_other_models(model, kept))
    return [key for key in kept if key not in others]


def _is_known(key, known: Collection[str]) -> bool:
    return key in known or str(key).startswith(ALIAS) or key in keys_read_by_recbole()


@cache
def known_keys() -> frozenset[str]:
    """All keys of RecBole's and our property files and of RecBole's argument lists."""
    return frozenset(OF_A_RUN).union(
        *recbole_argument_lists(),
        *map(keys_in, _property_files(RECBOLE_DIR / "properties")),
        *map(keys_in, _property_files(properties_dir())),
    )


@cache
def keys_read_by_recbole() -> frozenset[str]:
    """Keys that RecBole's code reads although they are in no property file."""
    read = set().union(*map(_keys_read_in, RECBOLE_DIR.rglob("*.py")))
    return frozenset(read.difference(SET_BY_RECBOLE, PROCESS_KEYS, SEARCH_SPACE_WORDS))


@cache
def recbole_argument_lists() -> list[list[str]]:
    """The keys in RecBole's ``utils/argument_list.py``, which imports nothing."""
    values = runpy.run_path(str(RECBOLE_DIR / "utils" / "argument_list.py"))
    return [keys for name, keys in values.items() if name.endswith("_arguments")]


def keys_of_other_models(model: str, keys: Iterable[str]) -> list[str]:
    """The ``keys`` that other models read, but neither this one nor the code common to all models.

    Args:
        model: its name.
        keys: known keys.
    """
    roots = (RECBOLE_DIR / "properties", properties_dir())
    files = [path for root in roots for path in root.glob("model/*.yaml")]
    files.append(properties_dir() / MULTI_MODAL)
    candidates = _keys_of_own_models().union(*map(keys_in, files)) & set(keys)
    if not candidates:
        return []
    read = set().union(*map(keys_in, recbole_property_files(model) + property_files(model)))
    read.update(*recbole_argument_lists())
    for path in RECBOLE_DIR.rglob("*.py"):
        of_models = path.parent.name.endswith("_recommender")
        if path.stem == model.lower() if of_models else path.name != CONFIGURATOR:
            read |= _keys_read_in(path)
    return sorted(candidates - read)


def hyper_parameters(model: str) -> list[str]:
    """The keys that define a model and its training, in the order of its files."""
    files = [RECBOLE_DIR / "properties" / "model" / f"{model}.yaml", *model_files(model)]
    own = [key for path in files if path.is_file() for key in values_in(path)]
    return list(dict.fromkeys([*own, *TRAINING_KEYS]))


def _keys_of_own_models() -> set[str]:
    files = [model.file(".yaml") for model in own_models().values()]
    return set().union(*map(keys_in, filter(None, files)))


def _property_files(root: Path) -> list[Path]:
    """All property files except RecBole's lists of downloads and our lists of stages."""
    files = sorted(root.rglob("*.yaml"))
    return [file for file in files if "url" not in file.name and file.parent.name != "transfer"]


@cache
def _keys_read_in(path: Path) -> frozenset[str]:
    """Keys that a file of RecBole's code reads from its configuration."""
    pattern = r"""config(?:_dict)?(?:\[|\.get\(\s*)["'](\w+)["']"""
    return frozenset(re.findall(pattern, path.read_text(encoding="utf-8")))
