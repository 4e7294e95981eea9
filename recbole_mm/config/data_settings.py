"""The data settings in the layers of a configuration, without importing RecBole."""

import os

from recbole_mm.config.defaults import DATA_PATH, defaults_for
from recbole_mm.config.errors import ConfigError, files_named
from recbole_mm.config.models import model_name
from recbole_mm.config.property_files import read_layers
from recbole_mm.config.stages import stage_overlays

DATA_KEYS = ("data_path", "domains", "exclude_users_of", "benchmark_filename", "modalities")


def data_settings(
    model: str | None = None, dataset: str | None = None, config_files=(), overrides=None
) -> list[dict]:
    """Location of the data of a run, or of each of its stages, and the parts to read.

    Args:
        model: name of a model, if an option names it.
        dataset: name of a data set, if an option names it.
        config_files: yaml files.
        overrides: values from the command line.

    Returns:
        ``dataset``, ``data_path`` (the folder of this data set), ``domains``,
        ``exclude_users_of``, ``benchmark_filename`` and ``modalities`` of each stage that names a
        data set; :func:`~recbole_mm.config.load.load_config` refuses the other stages, and
        :func:`~recbole_mm.run.stages.plan_stages` a malformed list of stages.

    Raises:
        UserError: a file cannot be read, or the model is unknown.
    """
    common = read_layers(config_files)
    given = {**common, **(overrides or {})}
    try:
        stages = stage_overlays(given) if common.get("stages") else [{}]
    except ConfigError:
        return []
    layers = [{**common, **stage, **(overrides or {})} for stage in stages]
    with files_named({str(path): {} for path in config_files}):
        return [
            _settings(model or given.get("model"), str(name), given)
            for given in layers
            if (name := dataset or given.get("dataset"))
        ]


def _settings(model, dataset: str, given: dict) -> dict:
    data_path = str(given.get("data_path", DATA_PATH))
    known = model_name(str(model)) if model else ""
    values = defaults_for(known, dataset, data_path) | given
    found = {key: values[key] for key in DATA_KEYS}
    return found | {"dataset": dataset, "data_path": os.path.join(data_path, dataset)}
