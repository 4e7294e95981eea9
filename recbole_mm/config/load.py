"""From yaml files and a command line to RecBole's Config.

The layers, later ones win::

    RecBole's defaults < properties/overall.yaml < properties/multi_modal.yaml
        < properties/model/<Model>.yaml
        < properties/released/<Model>.yaml (with released: True in any layer)
        < properties/dataset/<data set>.yaml < the user's yaml of the data set
        < config files < config dict < stage < command line
"""

import os
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from recbole.config import Config
from recbole.evaluator import metric_types
from recbole.utils import ModelType

from recbole_mm.config.checks import (
    refuse_contradictions,
    refuse_unfit_metrics,
    refuse_wrong_values,
)
from recbole_mm.config.defaults import DATA_PATH, defaults_for, merge, our_defaults
from recbole_mm.config.errors import ConfigError, files_named, in_no_file
from recbole_mm.config.keys import (
    OF_A_RUN,
    refuse_retired_keys,
    refuse_saved_data,
    refuse_unknown_keys,
)
from recbole_mm.config.models import model_name
from recbole_mm.config.property_files import (
    find_config_file,
    joined,
    read_yaml,
    users_dataset_files,
    values_in,
)
from recbole_mm.tools import processes
from recbole_mm.tools.variables import GPU_VARIABLE, environment


class Layer(NamedTuple):
    """Values that a user gives in one place, which messages name.

    Attributes:
        source: name of the place.
        values: values by key.
        is_file: whether the place is a file.
        is_typed: whether the place is the command line or a call; a stage is part of a file.
    """

    source: str
    values: dict
    is_file: bool = False
    is_typed: bool = False


class RunConfig(Config):
    """RecBole's Config, independent of the host process.

    It never reads ``sys.argv`` (which may be pytest's or a notebook's), uses the values of its
    dict unchanged instead of evaluating strings, and applies our property files to RecBole's own
    models too, so that all models are compared under the same protocol.

    Args:
        model: its name.
        dataset: its name.
        config_dict: all values that a user gives.
        users_files: whether the user's yaml files for the data set are read; a stored configuration
            is complete without them.
    """

    def __init__(self, model: str, dataset: str, config_dict: dict, users_files: bool = True):
        self.users_files = users_files
        super().__init__(model, dataset, config_dict=config_dict)

    def _load_cmd_line(self):
        return {}

    def _load_variable_config_dict(self, config_dict):
        return dict(config_dict or {})

    def _init_device(self):
        if not self.final_config_dict["use_gpu"]:  # RecBole itself never reads it
            self.final_config_dict["gpu_id"] = ""
            # RecBole hides the GPUs, but later runs of this process may use them
            with environment({GPU_VARIABLE: os.environ.get(GPU_VARIABLE)}):
                super()._init_device()
            return
        if isinstance(self.final_config_dict["gpu_id"], list):
            self.final_config_dict["gpu_id"] = tuple(self.final_config_dict["gpu_id"])
        if processes.size() > 1 and self.final_config_dict["gpu_id"] != "":
            # one GPU for each process; RecBole would make this one visible to all
            self.final_config_dict["gpu_id"] = os.environ[GPU_VARIABLE]
        super()._init_device()

    def _update_internal_config_dict(self, file):
        """Like RecBole's, but without reading the same files again for every configuration."""
        values = deepcopy(values_in(Path(file)))
        self.internal_config_dict.update(values)
        return values

    def _load_internal_config_dict(self, model, model_class, dataset):
        super()._load_internal_config_dict(model, model_class, dataset)
        layer_our_files(self, model, model_class, dataset, self.users_files)
        # RecBole's sequential models default to the softmax and to a negative sample, which is an
        # error; the sample is removed unless the user asks for one.
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
    dict_name: str = "config_dict",
    overrides_name: str = "command line",
) -> RunConfig:
    """Combine all layers into one Config.

    Args:
        model: name of one of our models or RecBole's, or ``my_module:MyModel``; if omitted, a layer
            must name it.
        dataset: name of a data set; if omitted, a layer must name it.
        config_files: yaml files, of the user or by their names in ``properties/``; later ones win.
        config_dict: values given by a program.
        stage: overlay of one stage of a run.
        overrides: values from the command line
            (:func:`~recbole_mm.config.values.parse_overrides`).
        stage_name: name of the stage in messages.
        dict_name: name of ``config_dict`` in messages.
        overrides_name: name of ``overrides`` in messages.

    Raises:
        YamlFileError: a file cannot be read.
        ConfigError: a file does not exist, a key is unknown, a value does not have the form of its
            key (:mod:`recbole_mm.config.forms`), the model or the data set is not named or not
            known, keys contradict each other
            (:func:`~recbole_mm.config.checks.refuse_contradictions` and
            :func:`~recbole_mm.config.checks.refuse_unfit_metrics`), or RecBole refuses a value.
    """
    layers = [Layer(str(path), read_yaml(find_config_file(path)), True) for path in config_files]
    layers.append(Layer(dict_name, config_dict or {}, is_typed=True))
    layers.append(Layer(stage_name, stage or {}))
    layers.append(Layer(overrides_name, overrides or {}, is_typed=True))
    if stage is None and any(layer.values.get("stages") for layer in layers):
        raise ConfigError(
            "this configuration lists stages, which only `recbole-mm --config_files=FILE` runs (in "
            "Python: run_stages); give a configuration without them"
        )
    with files_named(_files_of(layers, dataset)):
        model = model_name(_named("model", model, layers))
        dataset = _named("dataset", dataset, layers)
        values = _checked_values(layers, model, dataset)
        config = _recbole_config(model, dataset, values)
        refuse_contradictions(config)
    return config


def _files_of(layers: list[Layer], dataset: str | None) -> dict[str, dict]:
    """The values of the user's files, for the data set and as config files."""
    given = joined(layer.values for layer in layers)
    name, data_path = dataset or given.get("dataset"), given.get("data_path", DATA_PATH)
    of_dataset = {str(p): read_yaml(p) for p in users_dataset_files(str(name), str(data_path))}
    return of_dataset | {layer.source: layer.values for layer in layers if layer.is_file}


def layer_our_files(config: Config, model: str, model_class: type, dataset: str, users_files=True):
    """Apply our property files, and the user's for the data set, on top of RecBole's defaults.

    A model without ``reads_features`` gets no item features.

    Raises:
        UserError: see :func:`~recbole_mm.config.defaults.our_defaults`.
    """
    given, internal = config.external_config_dict, config.internal_config_dict
    data_path = given.get("data_path", DATA_PATH) if users_files else None
    internal.update(our_defaults(model, dataset, data_path, given))
    if not getattr(model_class, "reads_features", False):
        internal["modalities"] = []


def _checked_values(layers: list[Layer], model: str, dataset: str) -> dict:
    """All values from the user, checked, except for those that choose what runs."""
    paths = [str(layer.values["data_path"]) for layer in layers if "data_path" in layer.values]
    given = joined(layer.values for layer in layers)
    defaults = defaults_for(model, dataset, [DATA_PATH, *paths][-1], given)
    for layer in layers:
        with in_no_file() if layer.is_typed else nullcontext():
            refuse_unknown_keys(layer.values, layer.source)
            refuse_retired_keys(layer.values, layer.source)
            refuse_saved_data(layer.values, layer.source)
            refuse_wrong_values(layer.values, layer.source, model, defaults)
    values = merge([defaults, *(layer.values for layer in layers)], model)
    refuse_unfit_metrics(values, metric_types)
    return {key: values[key] for key in values if key in given and key not in OF_A_RUN}


def _named(key: str, name: str | None, layers: list[Layer]) -> str:
    """The model or the data set: the argument, else the value of the last layer with one."""
    names = [layer.values[key] for layer in layers if layer.values.get(key)]
    if not name and not names:
        raise ConfigError(f"no {key} is named: give --{key}=NAME (or `{key}:` in a yaml file)")
    return str(name or names[-1])


def _recbole_config(model: str, dataset: str, values: dict) -> RunConfig:
    try:
        return RunConfig(model, dataset, values)
    except KeyError as error:
        raise ConfigError(f"RecBole needs a value for {error}") from error
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
