"""From yaml files and a command line to RecBole's Config.

The layers, later ones win::

    RecBole's defaults < properties/overall.yaml < properties/model/<Model>.yaml
        < properties/dataset/<data set>.yaml < config files < config dict < stage < command line
"""

import os
from typing import NamedTuple

from recbole.config import Config
from recbole.utils import ModelType

from recbole_mm.config.checks import (
    complete,
    refuse_unmeasured_valid_metric,
    refuse_wrong_values,
)
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import refuse_unknown_keys
from recbole_mm.config.models import recbole_models, refuse_unknown_model
from recbole_mm.config.property_files import (
    find_config_file,
    layer_property_files,
    read_yaml,
)
from recbole_mm.tools import processes


class Layer(NamedTuple):
    """Values that a user gives in one place, which messages name."""

    source: str
    values: dict


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
        if isinstance(self.final_config_dict["gpu_id"], list):
            self.final_config_dict["gpu_id"] = tuple(self.final_config_dict["gpu_id"])
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


def load_config(
    model: str | None = None,
    dataset: str | None = None,
    config_files=(),
    config_dict: dict | None = None,
    stage: dict | None = None,
    overrides: dict | None = None,
    stage_name: str = "stage",
) -> RunConfig:
    """One Config from all layers.

    Args:
        model: name of a model of ours or of RecBole; without it some layer must name it.
        dataset: name of a data set, likewise.
        config_files: yaml files, of the user or by their names in ``properties/``; later ones win.
        config_dict: values given by a program.
        stage: the overlay of one stage of a run.
        overrides: the command line's values (:func:`~recbole_mm.config.values.parse_overrides`).
        stage_name: of the stage in messages.

    Raises:
        YamlFileError: a file cannot be read.
        ConfigError: a file does not exist, a key is unknown, a value does not have the form that
            its key asks for (:mod:`recbole_mm.config.forms`), the model or the data set is not
            named or not known, ``valid_metric`` is not one of the metrics, or RecBole refuses a
            value.
    """
    layers = [Layer(str(path), read_yaml(find_config_file(path))) for path in config_files]
    layers.append(Layer("config_dict", config_dict or {}))
    layers.append(Layer(stage_name, stage or {}))
    layers.append(Layer("command line", overrides or {}))
    if stage is None and any(layer.values.get("stages") for layer in layers):
        raise ConfigError("this configuration lists stages: run them with run_stages")
    model = _named("model", model, layers)
    dataset = _named("dataset", dataset, layers)
    refuse_unknown_model(model)
    for layer in layers:
        refuse_unknown_keys(layer.values, layer.source)
        refuse_wrong_values(layer.values, layer.source, model, dataset)
    values = complete((layer.values for layer in layers), model, dataset)
    config = _recbole_config(model, dataset, values)
    refuse_unmeasured_valid_metric(config)
    return config


def _named(key: str, name: str | None, layers: list[Layer]) -> str:
    """The model or the data set: the argument's, else that of the last layer with one."""
    names = [layer.values[key] for layer in layers if layer.values.get(key)]
    if not name and not names:
        raise ConfigError(f"no {key} is named: give --{key}=NAME (or `{key}:` in a yaml file)")
    return str(name or names[-1])


def _recbole_config(model: str, dataset: str, values: dict) -> RunConfig:
    try:
        return RunConfig(model, dataset, config_dict=values)
    except KeyError as error:
        raise ConfigError(f"RecBole misses the value of {error}") from error
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
