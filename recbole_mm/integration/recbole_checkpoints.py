"""Checkpoints that RecBole's own functions load: plain data, or a pickle that names only what
RecBole's trainer stores."""

import functools
import os
import pickle
import sys
from collections import OrderedDict
from enum import Enum
from typing import ClassVar

import numpy as np
import torch

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.keys import SET_BY_RECBOLE, keys_of_model
from recbole_mm.config.models import model_name
from recbole_mm.config.own_models import own_models
from recbole_mm.integration.lookup import QUICK_START
from recbole_mm.tools.errors import UserError, first_line
from recbole_mm.tools.torch_files import (
    TorchFileError,
    any_pickle_protocol,
    check_archive,
    refuse_unusable,
)

PACKAGES_WITH_MODELS = ("recbole", "recbole_mm")
CONFIG_CLASS = ("recbole.config.configurator", "Config")
RUN_CONFIG_CLASS = ("recbole_mm.config.load", "RunConfig")
IN_RECBOLE_CHECKPOINTS = {
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.multiarray", "scalar"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("yaml.loader", "FullLoader"),
}


def load_checkpoints_of_recbole():
    """Load checkpoints of RecBole's trainer, whose pickled Config torch >= 2.6 refuses.

    ``torch.load`` is wrapped; only calls from inside ``recbole`` without ``weights_only`` behave
    differently. They load plain data (our checkpoints, whose config they get as a Config), or a
    pickle that names only what RecBole's trainer stores.
    """
    original = torch.load
    if getattr(original, "loads_recbole", False):
        return

    @functools.wraps(original)
    def load(f, *args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not caller.startswith("recbole.") or "weights_only" in kwargs:
            return original(f, *args, **kwargs)
        return _load_or_refuse(original, caller, f, *args, **kwargs)

    load.loads_recbole = True
    torch.load = load


def read_checkpoint_of_recbole(path) -> dict:
    """Read a checkpoint as RecBole's ``load_data_and_model`` does.

    Raises:
        UserError: not a checkpoint of a known model, or a damaged one.
    """
    return _load_or_refuse(getattr(torch.load, "__wrapped__", torch.load), QUICK_START, path)


def _load_or_refuse(original, caller: str, f, *args, **kwargs):
    is_path = isinstance(f, (str, os.PathLike))
    try:
        if is_path:
            check_archive(f)
        return _load_for_recbole(original, caller, f, *args, **kwargs)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file may make torch and RecBole raise anything
        if isinstance(error, UserError) and not isinstance(error, TorchFileError):
            raise  # the message names the file or the key
        name = f if is_path else getattr(f, "name", "the file")
        raise UserError(
            f"{name}: not a checkpoint of a known model, or a damaged one ({first_line(error)})"
        ) from error


def _load_for_recbole(original, caller: str, f, *args, **kwargs):
    try:
        with any_pickle_protocol():
            checkpoint = original(f, *args, weights_only=True, **kwargs)
    except pickle.UnpicklingError:
        checkpoint = original(f, *args, weights_only=False, pickle_module=_RecBolePickle, **kwargs)
        read = _config_to_read()
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get("config"), read):
            config = checkpoint["config"]
            kind = _run_config() if isinstance(config, _run_config_to_read()) else read.__base__
            config.__class__ = kind
            if caller == QUICK_START:  # it acts on the configuration
                refuse_unusable(checkpoint["state_dict"], str(f), UserError)
                checkpoint["config"] = _checked(config)
                checkpoint["config"].__class__ = kind
        return checkpoint
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("config"), dict):
        from recbole_mm.config.plain import config_from_plain

        refuse_unusable(checkpoint["state_dict"], str(f), UserError)
        plain = checkpoint["config"]
        refuse_wrong_values(plain, str(f), model_name(plain["model"]))
        checkpoint["config"] = config_from_plain(plain)
    return checkpoint


def _checked(config):
    """The Config of a checkpoint, restricted to an admitted model and the keys that it reads."""
    from recbole_mm.config.plain import config_from_plain, config_to_plain

    model = model_name(config.final_config_dict["model"])
    kept = {*keys_of_model(model, config.final_config_dict), *SET_BY_RECBOLE}
    values = config.final_config_dict.items()
    config.final_config_dict = {key: value for key, value in values if key in kept}
    return config_from_plain(config_to_plain(config))


class RefusedPickle(UserError, pickle.UnpicklingError):
    """A checkpoint that names something that no checkpoint of RecBole needs."""


@functools.cache
def _config_to_read() -> type:
    """A class for RecBole's Config in a file, which only sets its state; creating a new Config
    would evaluate strings."""
    from recbole.config import Config

    def refuse(*_, **__):
        raise RefusedPickle("the checkpoint would create a Config, which executes code")

    return type("Config", (Config,), {"__init__": refuse})


class _ClassOfAModel:
    """Replaces the class that a Config names; a file cannot create a model."""

    def __init__(self, *_, **__):
        raise RefusedPickle("the checkpoint would create a model, which may execute code")


@functools.cache
def _run_config_to_read() -> type:
    """The same class for our Config, which checkpoints of our commands contain."""
    return type("RunConfig", (_config_to_read(),), {})


def _run_config() -> type:
    from recbole_mm.config.load import RunConfig

    return RunConfig


class _RecBoleUnpickler(pickle._Unpickler):
    """Imports only the names that a checkpoint of RecBole's trainer needs, and sets the state only
    of objects in the checkpoint: imported objects are not changed.

    It is based on Python's own unpickler, since the one in C does not let a class control states.
    """

    def load_build(self):
        inst = self.stack[-2]
        if not isinstance(inst, (_config_to_read(), OrderedDict, np.dtype)):
            called = getattr(inst, "__qualname__", type(inst).__name__)
            raise RefusedPickle(f"the checkpoint would change {called}, which it does not contain")
        super().load_build()

    dispatch: ClassVar = {**pickle._Unpickler.dispatch, pickle.BUILD[0]: load_build}

    def find_class(self, module, name):
        if (module, name) in IN_RECBOLE_CHECKPOINTS:
            return super().find_class(module, name)
        if (module, name) == CONFIG_CLASS:
            return _config_to_read()
        if (module, name) == RUN_CONFIG_CLASS:
            return _run_config_to_read()
        if module == "recbole.utils.enum_type":
            found = super().find_class(module, name)
            if isinstance(found, type) and issubclass(found, Enum):
                return found
        package, _, inside = module.partition(".")
        own = own_models().get(name)
        if package in PACKAGES_WITH_MODELS and inside.startswith("model."):
            return _ClassOfAModel
        if own is not None and own.module == module:
            return _ClassOfAModel
        raise RefusedPickle(
            f"the checkpoint would import {module}.{name}, which RecBole's trainer never stores. "
            "If you trust its origin, load it with torch.load(..., weights_only=False)"
        )


class _RecBolePickle:
    """The interface that ``torch.load(pickle_module=...)`` needs."""

    Unpickler = _RecBoleUnpickler

    @staticmethod
    def load(file, **kwargs):
        return _RecBoleUnpickler(file, **kwargs).load()
