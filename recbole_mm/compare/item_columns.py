r"""Columns of the ``.item`` file for RecBole's models with item features (FDSA, SASRecF, ...)."""

from pathlib import Path

import polars as pl

from recbole_mm.config.columns import ALL
from recbole_mm.config.errors import ConfigError
from recbole_mm.data.atomic_files import AtomicFile

LONGEST = 20
"""Maximum number of words that are read from the beginning of a text."""

MOST_DISTINCT = 0.5
"""A column with a larger share of distinct values identifies items and is not a property of
them."""


def columns_for(model: str, config) -> dict:
    """The settings with which ``model`` reads the columns of the ``.item`` file.

    These are its columns of tokens and of token sequences. Items without interactions are
    excluded, so that the candidates are those of the other models.

    Args:
        model: name of the model, for messages.
        config: configuration of the model on the data set.

    Raises:
        ConfigError: the ``.item`` file does not exist, or has no such column.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        raise ConfigError(
            f"{model} reads item columns, but {path} does not exist: remove the model"
        )
    file = AtomicFile(path, config["field_separator"], config["encoding"])
    item_id = config["ITEM_ID_FIELD"]
    kinds = {name: kind for name, kind in file.columns if name != item_id}
    tokens = file.table([name for name, kind in kinds.items() if kind == "token"])
    columns = [
        name
        for name, kind in kinds.items()
        if kind == "token_seq" or (kind == "token" and _is_property(tokens[name]))
    ]
    if not columns:
        found = ", ".join(":".join(column) for column in file.columns)
        raise ConfigError(
            f"{model} reads item columns, but {path} has no column of tokens that items share "
            f"(it has {found}): remove the model"
        )
    sequences = [name for name in columns if kinds[name] == "token_seq"]
    return {
        "selected_features": columns,
        "load_col": {**(config["load_col"] or {"inter": ALL}), "item": [item_id, *columns]},
        "seq_len": dict.fromkeys(sequences, LONGEST),
        "item_inter_num_interval": "[1,inf)",
    }


def _is_property(cells: pl.Series) -> bool:
    values = cells.drop_nulls()
    return len(values) > 0 and values.n_unique() <= MOST_DISTINCT * len(values)
