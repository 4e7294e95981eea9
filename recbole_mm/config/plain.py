"""Conversion of a configuration to plain data and back."""

import os
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import SET_BY_RECBOLE, keys_of_model
from recbole_mm.config.load import RunConfig
from recbole_mm.config.models import INSTEAD, model_name


def config_to_plain(config: Config) -> dict:
    """The configuration as data for yaml, JSON and ``torch.load(weights_only=True)``.

    Values that RecBole derives from the machine or from other keys are omitted;
    :func:`config_from_plain` derives them again. So is ``released``, whose values are all included.

    Raises:
        TypeError: a value is neither a number, a string, a bool, None nor a list, tuple or dict of
            these; the message names the key.
    """
    left_out = (*SET_BY_RECBOLE, "released")
    values = {k: v for k, v in config.final_config_dict.items() if k not in left_out}
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
    """The Config stored by :func:`config_to_plain`, on the device of this machine.

    A stored configuration may come from elsewhere. It cannot name a module to import, and only the
    keys that its model reads have an effect (:func:`~recbole_mm.config.keys.keys_of_model`).

    Raises:
        ConfigError: the model is unknown or not admitted
            (:func:`~recbole_mm.config.models.admitted_models`).
    """
    if ":" in str(plain["model"]):
        raise ConfigError(
            f"a stored configuration names the module of a model, {plain['model']!r}, which is not "
            f"imported from there: name the model yourself, --model={plain['model']}"
        )
    if plain["model"] in INSTEAD:
        raise ConfigError(
            f"a stored configuration is of RecBole's {plain['model']}, which is not run here; train "
            f"{INSTEAD[plain['model']]} instead"
        )
    model = model_name(plain["model"])
    kept = keys_of_model(model, plain)
    values = {key: plain[key] for key in kept if key not in ("model", "dataset")}
    return RunConfig(model, plain["dataset"], values, users_files=False)


def to_plain(value):
    """Convert a value to numbers, strings, bools, None, and lists and dicts of these.

    Raises:
        TypeError: the value has another type.
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
