"""From yaml files and a command line to RecBole's Config, and from a Config to plain data.

The layers, later ones win::

    RecBole's defaults < properties/overall.yaml < properties/model/<Model>.yaml
        < properties/dataset/<data set>.yaml < config files < config dict < stage < command line
"""

import os

from recbole.config import Config
from recbole.utils import ModelType

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import refuse_unknown_keys
from recbole_mm.config.limits import (
    refuse_malformed_metrics,
    refuse_number_out_of_limits,
    refuse_text_for_a_number,
    refuse_unmeasured_valid_metric,
)
from recbole_mm.config.models import recbole_models, refuse_unknown_model
from recbole_mm.config.property_files import layer_property_files, read_yaml
from recbole_mm.tools import processes

COMMAND_LINE = "the command line"


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
        overrides: the command line's values (:func:`~recbole_mm.config.values.parse_overrides`).

    Raises:
        ConfigError: a file is missing or is no mapping, a key is unknown, the model or the data
            set is not named or not known, a number is given as text or is out of its
            :data:`~recbole_mm.config.limits.LIMITS`, ``valid_metric`` is none of the metrics, or
            RecBole refuses a value.
    """
    layers = [(str(path), read_yaml(path)) for path in config_files]
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
    refuse_unknown_model(str(named["model"]))
    refuse_malformed_metrics(merged)
    try:
        config = RunConfig(str(named["model"]), str(named["dataset"]), config_dict=merged)
    except KeyError as error:
        raise ConfigError(f"RecBole misses the value of {error}") from error
    except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    for source, values in layers:
        refuse_text_for_a_number(values, source, config.internal_config_dict)
        refuse_number_out_of_limits(values, source)
    refuse_unmeasured_valid_metric(config)
    return config
