"""RecBole's atomic files: tab-separated, every column named with its type, ``item_id:token``."""

import csv
from pathlib import Path

import polars as pl

from recbole_mm.prepare.fields import FIELD_TYPES
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.table_files import reading
from recbole_mm.prepare.text_tables import open_text
from recbole_mm.tools.files import whole_or_not

TYPES = ("token", "token_seq", "float", "float_seq")


def write_interactions(path, interactions: pl.DataFrame) -> None:
    """Write ``.inter``; absent columns are left out."""
    _write(path, interactions)


def write_items(path, items: pl.DataFrame, types: dict[str, str] | None = None) -> None:
    """Write ``.item``: one row per item, white space in texts is one blank, empty columns left out.

    Args:
        path: of the file.
        items: ``item_id``, further columns.
        types: of columns that :data:`~recbole_mm.prepare.fields.FIELD_TYPES` lacks.
    """
    types = {**FIELD_TYPES, **(types or {})}
    texts = [name for name in items.columns if name != "item_id" and types[name] != "float"]
    items = items.with_columns(clean_text(name) for name in texts)
    empty = [name for name in texts if items[name].fill_null("").eq("").all()]
    _write(path, items.drop(empty), types)


def clean_text(column: str) -> pl.Expr:
    """White space of any kind as one blank, none at the ends."""
    return pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()


def read_atomic_file(path: Path) -> pl.DataFrame:
    """A file as a table: columns without their types, ``float`` ones as numbers, others as text.

    Raises:
        InputError: the file is not readable, or a column has no type, or a name is there twice.
    """
    with open_text(path) as file:
        header = next(csv.reader(file, delimiter="\t"), [])
    kinds = dict(name.rpartition(":")[::2] for name in header)
    unusable = [name for name in header if name.count(":") != 1 or name.split(":")[1] not in TYPES]
    if unusable or len(kinds) < len(header) or not header:
        raise InputError(
            f"{path}: its first line is {header}; expected different names, each with one of the types "
            f"{TYPES}, as in item_id:token."
        )
    with reading(path):
        table = pl.read_csv(path, separator="\t", infer_schema=False, new_columns=list(kinds))
        numbers = [name for name, kind in kinds.items() if kind == "float"]
        return table.with_columns(pl.col(numbers).cast(pl.Float64))


def _write(path, table: pl.DataFrame, types: dict[str, str] = FIELD_TYPES) -> None:
    header = {name: f"{name}:{types[name]}" for name in table.columns}
    with whole_or_not(path) as temporary:
        table.rename(header).write_csv(temporary, separator="\t", float_scientific=False)
