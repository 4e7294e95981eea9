"""The tables of a data set, written as RecBole's atomic files."""

import polars as pl

from recbole_mm.data.atomic_files import write_atomic_file
from recbole_mm.prepare.fields import FIELD_TYPES


def write_interactions(path, interactions: pl.DataFrame) -> None:
    """Write ``.inter``; absent columns are omitted."""
    write_atomic_file(path, interactions, FIELD_TYPES)


def write_items(path, items: pl.DataFrame, types: dict[str, str] | None = None) -> None:
    """Write ``.item``: one row per item, white space in texts as one blank, empty columns omitted.

    Args:
        path: path of the file.
        items: ``item_id`` and further columns.
        types: types of the columns that :data:`~recbole_mm.prepare.fields.FIELD_TYPES` lacks.
    """
    types = {**FIELD_TYPES, **(types or {})}
    texts = [name for name in items.columns if name != "item_id" and types[name] != "float"]
    items = items.with_columns(clean_text(name) for name in texts)
    empty = [name for name in texts if items[name].fill_null("").eq("").all()]
    write_atomic_file(path, items.drop(empty), types)


def clean_text(column: str) -> pl.Expr:
    """White space of any kind as one blank, none at the ends."""
    return pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()
