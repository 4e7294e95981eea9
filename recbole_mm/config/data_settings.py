"""What the layers of a configuration say of its data, without importing RecBole."""

import os

from recbole_mm.config.property_files import RECBOLE_DIR, defaults_in, property_files, read_layers

DATA_KEYS = ("data_path", "domains", "benchmark_filename", "modalities")


def data_settings(
    model: str | None = None, dataset: str | None = None, config_files=(), overrides=None
) -> list[dict]:
    """Where the data of a run, or of each of its stages, are, and what is read of them.

    Args:
        model: name of a model, if given by an option.
        dataset: name of a data set, likewise.
        config_files: yaml files.
        overrides: the command line's values.

    Returns:
        ``dataset``, ``data_path`` (the folder of this data set), ``domains``,
        ``benchmark_filename`` and ``modalities`` of each stage that names a data set;
        :func:`~recbole_mm.config.load.load_config` refuses the others.
    """
    common = read_layers(config_files)
    stages = common.pop("stages", None) or [{}]
    if not isinstance(stages, list):
        return []
    given = [
        {**common, **stage, **(overrides or {})} for stage in stages if isinstance(stage, dict)
    ]
    return [
        _data_settings(str(model or values.get("model")), str(name), values)
        for values in given
        if (name := dataset or values.get("dataset"))
    ]


def _data_settings(model: str, name: str, given: dict) -> dict:
    found = dict.fromkeys(DATA_KEYS)
    for path in (RECBOLE_DIR / "properties" / "overall.yaml", *property_files(model, name)):
        found |= defaults_in(path)
    found |= given
    folder = os.path.join(str(found["data_path"]), name)
    return {key: found[key] for key in DATA_KEYS} | {"dataset": name, "data_path": folder}
