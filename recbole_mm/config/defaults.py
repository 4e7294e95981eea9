"""The layers below a user's values for a run: property files, and the user's file for a data set.

A data set may have its own yaml file, ``properties/dataset/Mine.yaml`` in the working directory or
``<data_path>/Mine/Mine.yaml`` next to the data. It comes after the package's file for that data
set, and is checked like every other layer.

``released: True`` in any layer, of the package or of the user, adds the values of the model's first
release, ``properties/released/<Model>.yaml``, between the files of the model and of the data set.
"""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path

from recbole_mm.config.checks import forms_for, refuse_wrong_values
from recbole_mm.config.columns import follow_fields
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.forms import lay_over
from recbole_mm.config.keys import (
    OF_A_RUN,
    OF_THIS_MACHINE,
    SAVED_DATA,
    refuse_unknown_keys,
)
from recbole_mm.config.property_files import (
    joined,
    model_files,
    property_files,
    recbole_property_files,
    users_dataset_files,
    values_in,
)

DATA_PATH = "dataset/"
"""RecBole's default folder of data sets."""

NOT_OF_A_DATASET = (
    *OF_A_RUN, *SAVED_DATA, *OF_THIS_MACHINE, "checkpoint_dir", "data_path", "feature_path", "log_wandb",
    "mf_pretrain_path", "mlp_pretrain_path", "pre_model_path", "pretrain_path", "teacher", "tracker",
    "wandb_project", "warm_up",
)  # fmt: skip
"""Keys that a file next to data may not set: what runs, from which files, where it writes and what
it sends."""


def our_defaults(
    model: str, dataset: str | None = None, data_path=None, given: dict | None = None
) -> dict:
    """The values of our property files and of the user's file for the data set.

    Args:
        model: its name.
        dataset: its name.
        data_path: folder of the data sets; ``None``: the user's files are not read.
        given: the user's values for the run, which may request the release and name columns.

    Raises:
        UserError: a file of the user cannot be read.
        ConfigError: it has an unknown key, one of :data:`NOT_OF_A_DATASET`, or a value that its
            key cannot have.
    """
    files = [] if dataset is None or data_path is None else users_dataset_files(dataset, data_path)
    own = [_users_values(file, model) for file in files]
    asking = joined([*map(values_in, property_files(model, dataset)), *own, given or {}])
    files = property_files(model, dataset, bool(asking.get("released")))
    shipped = deepcopy(joined(map(values_in, files)))
    shipped["load_col"] = follow_fields(shipped["load_col"], asking)
    values = merge([shipped, *own], model)
    if _is_on_ids_alone(model):  # regardless of the data set's features
        values["modalities"] = []
    return values


def defaults_for(model: str, dataset: str, data_path=None, given: dict | None = None) -> dict:
    """The default value of every key; the arguments are those of :func:`our_defaults`."""
    recbole = joined(map(values_in, recbole_property_files(model)))
    return deepcopy(recbole) | our_defaults(model, dataset, data_path, given)


def merge(layers: Iterable[dict], model: str) -> dict:
    """Merge the values of all layers, later ones win; entries missing from a mapping that may be
    partial come from the layers below it."""
    forms = forms_for(model)
    values: dict = {}
    for layer in layers:
        for key, value in layer.items():
            values[key] = lay_over(forms.get(key), value, values.get(key))
    return values


def _is_on_ids_alone(model: str) -> bool:
    return joined(map(values_in, model_files(model))).get("modalities") == []


def _users_values(file: Path, model: str) -> dict:
    values = deepcopy(values_in(file))
    _refuse_keys_of_runs(values, file)
    refuse_unknown_keys(values, str(file))
    refuse_wrong_values(values, str(file), model)
    return values


def _refuse_keys_of_runs(keys: Iterable[str], file: Path) -> None:
    wrong = [key for key in keys if key in NOT_OF_A_DATASET]
    if wrong:
        raise ConfigError(
            f"{file}: {', '.join(wrong)} cannot be set by the file of a data set; give it in a "
            f"file of --config_files or on the command line"
        )
