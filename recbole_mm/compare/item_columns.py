r"""Columns of the ``.item`` file for RecBole's models with item features (FDSA, SASRecF, ...)."""

from pathlib import Path

import pandas as pd

from recbole_mm.config.errors import ConfigError

LONGEST = 20
"""How many words of a text are read, from its beginning."""

MOST_DISTINCT = 0.5
"""A column with a larger share of distinct values is a name of the item, not a property of it."""


def columns_for(model: str, config) -> dict:
    """The settings with which ``model`` reads the columns of the ``.item`` file.

    These are its columns of tokens and of token sequences. Items without interactions are left
    out, so that the candidates are those of the other models.

    Args:
        model: its name, for messages.
        config: of the model on the data set.

    Raises:
        ConfigError: the ``.item`` file does not exist, or has no such column.
    """
    path = Path(config["data_path"]) / f"{config['dataset']}.item"
    if not path.is_file():
        raise ConfigError(
            f"{model} reads item columns, but {path} does not exist: leave the model out"
        )
    table = pd.read_csv(path, sep=config["field_separator"], dtype=str, encoding=config["encoding"])
    if any(":" not in column for column in table.columns):
        raise ConfigError(
            f"{path}: its first line is {table.columns.to_list()}, but should name every column "
            f"with its type, e.g. {config['ITEM_ID_FIELD']}:token"
        )
    kinds = dict(column.split(":") for column in table.columns)
    item_id = config["ITEM_ID_FIELD"]
    columns = [
        name
        for name, kind in kinds.items()
        if kind == "token_seq" or (kind == "token" and _is_property(table[f"{name}:{kind}"]))
        if name != item_id
    ]
    if not columns:
        raise ConfigError(
            f"{model} reads item columns, but {path} has none of tokens that items share "
            f"(it has {', '.join(table.columns)}): leave the model out"
        )
    sequences = [name for name in columns if kinds[name] == "token_seq"]
    return {
        "selected_features": columns,
        "load_col": {**config["load_col"], "item": [item_id, *columns]},
        "seq_len": dict.fromkeys(sequences, LONGEST),
        "item_inter_num_interval": "[1,inf)",
    }


def _is_property(column: pd.Series) -> bool:
    values = column.dropna()
    return len(values) > 0 and values.nunique() <= MOST_DISTINCT * len(values)
