"""Tables of users and items by external ids, in any format, and how to read them."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recbole_mm.prepare.formats import PLAIN, TextFormat
from recbole_mm.prepare.interactions import as_tokens
from recbole_mm.prepare.table_files import reading, scan_table
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.names import nearest
from recbole_mm.tools.text_files import read_text

USUAL_NAMES = {
    "user": ("user", "user_id"),
    "item": ("item", "item_id", "items", "item_id_list"),
    "time": ("timestamp", "timestamps", "timestamp_list"),
}
"""Names of columns that are recognized."""
NAMES_OF_LISTS = ("items", "item_id_list")
"""Names of columns that hold a whole history."""
OTHER_SEPARATORS = (";", "\t", "|", ",")
SHOWN = 3


class TableError(UserError):
    """A table that cannot be used; the message names the table and the fix."""


class TableForm(NamedTuple):
    """How to read a table of histories.

    Attributes:
        user: column of the users; ``None``: one of :data:`USUAL_NAMES`.
        item: column of the items, or of lists of items; ``None``: as for ``user``.
        time: column of the times, or of lists of times; ``None``: as for ``user``, if there is one.
        lists: whether a row is a whole history; ``None``: if the column of the items has lists, or
            is named like a list (:data:`NAMES_OF_LISTS`).
        time_unit: unit of numeric times: ``s`` (default), ``ms``, ``us`` or ``ns``.
        time_format: format of times that are texts, see
            :func:`~recbole_mm.prepare.times.unix_seconds`.
        text: format of csv and tsv files.
        trained: names of the columns in the data of the training, by role; recognized as well.
        item_text: field (``title``, ``image``, ...) and column of each text or picture of a table
            of items that has another name for it.
    """

    user: str | None = None
    item: str | None = None
    time: str | None = None
    lists: bool | None = None
    time_unit: str | None = None
    time_format: str | None = None
    text: TextFormat = PLAIN
    trained: tuple[tuple[str, str], ...] = ()
    item_text: tuple[tuple[str, str], ...] = ()

    def recognized(self, role: str) -> tuple[str, ...]:
        """Names that the column of a role may have, the best first."""
        named = getattr(self, role)
        also = tuple(name for known, name in self.trained if known == role)
        return (named,) if named else (*USUAL_NAMES[role], *also)


USUAL = TableForm()
OPTIONS = {"user": "--user-column", "item": "--item-column", "time": "--time-column"}


def read_ids(path, role: str, form: TableForm = USUAL) -> list[str]:
    """External ids of users or of items, from a file.

    Args:
        path: text with one id per line (``.txt``), or a table.
        role: ``user`` or ``item``.
        form: columns and format of the table.

    Raises:
        TableError: the table has no such column, or the text is not UTF-8.
        InputError: the file cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        lines = read_text(path, TableError).split("\n")
        return [line.strip() for line in lines if line.strip()]
    return ids_of_table(path, role, form)


def ids_of_table(path, role: str, form: TableForm = USUAL) -> list[str]:
    """External ids of a table; see :func:`read_ids`."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        reading(path, form.text),
    ):
        table = open_table(path, form, folder)
        names = table.collect_schema().names()
        name = column_of(names, role, form, str(path))
        ids = table.select(as_tokens(name, table.collect_schema()[name]))
        return ids.collect().to_series().drop_nulls().to_list()


def read_items_table(source, form: TableForm = USUAL) -> pl.DataFrame:
    """A table of items in memory; its column ``item`` has their external ids, as text.

    Args:
        source: file of any format that recbole-mm prepare reads, a polars or pandas frame, or a
            dict of columns.
        form: columns and format of the table.

    Raises:
        TableError: the table has no column of items, or none of a name in ``form.item_text``.
        InputError: the file cannot be read.
    """
    origin = str(source) if isinstance(source, (str, Path)) else "the frame of items"
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        reading(origin, form.text),
    ):
        table = open_table(source, form, folder)
        name = column_of(table.collect_schema().names(), "item", form, origin)
        table = table.filter(~pl.all_horizontal(pl.all().is_null()))  # blank lines
        columns = [as_tokens(name, table.collect_schema()[name]).alias("item")]
        columns += _item_texts(table, form, origin)
        return table.with_columns(columns).collect()


def _item_texts(table: pl.LazyFrame, form: TableForm, origin: str) -> list[pl.Expr]:
    """The columns of texts and pictures, by their fields."""
    names = table.collect_schema().names()
    for field, column in form.item_text:
        if column not in names:
            near = nearest(column, names)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise TableError(
                f"{origin}: no column {column!r}: name that of {field} with --item-text {field}=COLUMN{meant} "
                f"(in Python TableForm(item_text=...)). The table has {names}"
            )
    return [pl.col(column).alias(field) for field, column in form.item_text]


def open_table(source, form: TableForm, folder) -> pl.LazyFrame:
    """A table that is not yet read.

    Args:
        source: see :func:`read_items_table`, or a lazy polars frame.
        form: format of the table.
        folder: folder for a copy in UTF-8 of a file in another encoding.

    Raises:
        TableError: the source is something else.
    """
    if isinstance(source, (str, Path)):
        return scan_table(source, form.text, folder)
    if isinstance(source, pl.LazyFrame):
        return source
    if isinstance(source, Mapping):
        return pl.LazyFrame(source, strict=False)
    if not isinstance(source, pl.DataFrame):
        if not (hasattr(source, "items") and hasattr(source, "columns")):
            raise TableError(
                f"{type(source).__name__!r} is not a table: give the path of a file, a polars or "
                f"pandas frame, or a dict of columns like {{'user': ['ann'], 'item': ['lamp']}}"
            )
        source = _from_pandas(source)
    return source.lazy()


def _from_pandas(frame) -> pl.DataFrame:
    """A pandas frame, without pyarrow."""
    columns = {
        str(name): values.to_numpy() if values.dtype.kind in "biuf" else values.to_list()
        for name, values in frame.items()
    }
    return pl.DataFrame(columns, strict=False, nan_to_null=True)


def column_of(names: list[str], role: str, form: TableForm, origin: str) -> str:
    """The column of a role (``user``, ``item``, ``time``).

    Args:
        names: names of the table's columns.
        role: role of the column to find.
        form: form with the user's name of the column.
        origin: name of the table in messages.

    Raises:
        TableError: there is no such column.
    """
    for name in form.recognized(role):
        if name in names:
            return name
    named = getattr(form, role)
    missing = f"no column {named!r}" if named else f"no column of {role}s"
    near = nearest(named, names) if named else [name for name in names if role in name.lower()]
    meant = f"; did you mean {near[0]!r}?" if near else ""
    fix = f"name it with {OPTIONS[role]} (in Python TableForm({role}=...){meant})"
    only = names[0] if len(names) == 1 else ""
    others = [character for character in OTHER_SEPARATORS if character in only]
    if others:
        separator = "tab" if others[0] == "\t" else others[0]
        fix = f"the table has one column, which looks like several: --separator='{separator}'"
    raise TableError(f"{origin}: {missing}: {fix}. The table has {names}")
