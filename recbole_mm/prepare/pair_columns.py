"""Which columns of a public data set hold the users, the items, the times and the texts."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from recbole_mm.prepare.formats import TextFormat
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.text_tables import first_record, read_records

LOOKED_AT = 10_000
"""Number of pairs from which the column of the items is recognized."""

FIRST_MILLISECONDS = 1e11
NAMES = {
    "user_column": ("user", "userid", "user_id", "uid"),
    "item_column": ("item", "itemid", "item_id", "iid", "video", "videoid", "video_id", "vid"),
    "time_column": ("timestamp", "time", "ts"),
}
"""Names of the columns of pairs in a header, in lower case, in the documented order of the columns."""

ITEM_NAMES = {
    "item": NAMES["item_column"],
    "text_zh": ("text_zh", "title_zh", "zh", "chinese"),
    "text_en": ("text_en", "title_en", "en", "english"),
}
"""Names of the columns of NineRec's items, in lower case."""


class Columns(NamedTuple):
    """The columns of a file.

    Attributes:
        names: content of each column -> its name.
        text: format of the file.
        has_header: whether the first line names the columns.
    """

    names: dict[str, str]
    text: TextFormat
    has_header: bool


def columns_of_pairs(path: Path, text: TextFormat, n_columns: int) -> Columns:
    """The columns of pairs; a header names the users or the items.

    Args:
        path: path of the pairs.
        text: format of the file.
        n_columns: number of columns: 3, or 2 without times.

    Raises:
        InputError: the file has no rows, or has a header with fewer columns.
    """
    roles = list(NAMES)[:n_columns]
    known = {role: NAMES[role] for role in roles}
    named = _named(_header(path, text), known)
    if {"user_column", "item_column"} & named.keys():
        return _with_header(path, text, known)
    names = ("first", "second", "timestamp")[:n_columns]
    return _without_header(path, text, dict(zip(roles, names, strict=True)))


def columns_of_items(path: Path, text: TextFormat) -> Columns:
    """The columns of NineRec's items; a header names the items first, as a title may be any word.

    Raises:
        InputError: the file has no rows, or has a header with fewer columns.
    """
    first = _header(path, text)[:1]
    if first and first[0].lower() in ITEM_NAMES["item"]:
        return _with_header(path, text, ITEM_NAMES)
    return _without_header(path, text, {name: name for name in ITEM_NAMES})


def _header(path: Path, text: TextFormat) -> list[str]:
    return [name.strip() for name in first_record(path, text)]


def _named(header: list[str], known: dict[str, tuple[str, ...]]) -> dict[str, str]:
    """Content of each column with a known name -> this name; the first such column counts."""
    found = {
        role: next((name for name in header if name.lower() in names), None)
        for role, names in known.items()
    }
    return {role: name for role, name in found.items() if name}


def _with_header(path: Path, text: TextFormat, known: dict[str, tuple[str, ...]]) -> Columns:
    """Columns by their names; those that the header does not name by position."""
    header = _header(path, text)
    if len(header) < len(known):
        expected = [names[0] for names in known.values()]
        raise InputError(
            f"{path}: it has the columns {header}, expected {len(known)}: {expected}. Get it again."
        )
    refuse_empty(path, text)
    named = _named(header, known)
    others = iter(name for name in header if name not in named.values())
    return Columns({role: named.get(role) or next(others) for role in known}, text, True)


def _without_header(path: Path, text: TextFormat, names: dict[str, str]) -> Columns:
    text = text._replace(header=tuple(names.values()))
    refuse_empty(path, text)
    return Columns(names, text, False)


def items_in_pairs(
    pairs: Path, text: TextFormat, items: Path, items_text: TextFormat
) -> tuple[int, int, int]:
    """Counts of the first pairs: with an item in column 1, with an item in column 2, and in all.

    Raises:
        InputError: no pair has an item in either column.
    """
    known = {record[0].strip() for record in rows_of(items, items_text) if record}
    rows = [record for record in islice(rows_of(pairs, text), LOOKED_AT) if len(record) > 1]
    first, second = (sum(row[place].strip() in known for row in rows) for place in (0, 1))
    if not first and not second:
        raise InputError(
            f"{pairs}: neither of its first two columns has items of {items}: its first rows are "
            f"{rows[:2]}. Do the files belong together?"
        )
    return first, second, len(rows)


def time_unit(path: Path, column: str, text: TextFormat) -> str:
    """The unit of times, by the magnitude of the first.

    Raises:
        InputError: the file is empty, there is no such column, or the first time is not a number.
    """
    refuse_empty(path, text)
    names = [name.strip() for name in text.header or first_record(path, text)]
    if column not in names:
        raise InputError(f"{path}: no column {column!r} of times; it has {names}. Get it again.")
    first = next(row for row in rows_of(path, text) if row)
    try:
        return "ms" if float(first[names.index(column)]) >= FIRST_MILLISECONDS else "s"
    except (ValueError, IndexError) as error:
        raise InputError(
            f"{path}: the first row is {first}; expected a number as its time. Fix it, or get it again."
        ) from error


def refuse_empty(path: Path, text: TextFormat) -> None:
    """Check that a file has a row.

    Raises:
        InputError: the file has none.
    """
    if any(rows_of(path, text)):
        return
    has_header = not text.header and first_record(path, text)
    what = "it has a header and no rows" if has_header else "it is empty"
    raise InputError(f"{path}: {what}. Get it again.")


def rows_of(path: Path, text: TextFormat) -> Iterator[list[str]]:
    """The records without the header."""
    return islice(read_records(path, text), 0 if text.header else 1, None)
