r"""RecBole's atomic files (``.inter``, ``.item``, ``.user``, ...): one reader, one writer.

The rules:

- The first line names the columns, each as ``name:type``. The type follows the last colon and is
  one of ``token``, ``token_seq``, ``float``, ``float_seq``. Names are unique.
- Every other line has as many cells as the first; empty lines are skipped. Lines end with ``\n``,
  ``\r\n`` or ``\r``. Only the separator divides cells.
- Blanks around a name and around a cell are ignored.
- Only an empty cell is missing: ``NA``, ``null``, ``None`` and ``nan`` are tokens.
- A quote is an ordinary character, with one exception: a cell that csv programs have written in
  quotes, with inner quotes doubled, is read without them. Quotes do not join cells or lines.
- The text is in the given encoding, with or without a byte order mark.
- No row is dropped: a file that violates a rule is refused, and the message names the line.
"""

import codecs
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recbole_mm.data.errors import DatasetError
from recbole_mm.tools.files import whole_or_not

KINDS = ("token", "token_seq", "float", "float_seq")
UNIT_SEPARATOR = b"\x1f"
"""Replaces a separator of several characters; no text contains it."""

_DTYPES = {"float": pl.Float64}
OTHER_SEPARATOR = re.compile(r":(?:token|float)(?:_seq)?(?P<mark>[ ,;|\t])\s*\w+:(?:token|float)")
"""Finds another separator than the given one between two columns of a first line."""
QUOTED = r'^"(?:[^"]|"")*"$'
BYTE_ORDER_MARKS = {
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
}


class Column(NamedTuple):
    """A column of an atomic file.

    Attributes:
        name: name without the type.
        kind: type, one of :data:`KINDS`.
    """

    name: str
    kind: str


class AtomicFile:
    """An atomic file in memory whose columns are known and whose rows are not yet parsed.

    Args:
        path: path of the file.
        separator: separator between cells.
        encoding: encoding of the text.

    Attributes:
        columns: columns in the order of the file.

    Raises:
        DatasetError: the file does not exist or is not text in this encoding, or its first line
            does not name unique columns with their types.
    """

    def __init__(self, path, separator: str = "\t", encoding: str = "utf-8"):
        self.path, self.separator = Path(path), separator
        self._data = _read_utf8(self.path, encoding)
        self.columns = _columns(self.path, self._data, separator)

    def table(self, names=None) -> pl.DataFrame:
        """The rows in order; the arguments, columns and errors are those of :meth:`cells`."""
        return pl.DataFrame(list(self.cells(names)))

    def cells(self, names=None) -> Iterator[pl.Series]:
        """Yield the columns one by one, so that only one is in memory as separate strings.

        Args:
            names: columns to read, in the order of the file; ``None``: all.

        Yields:
            a named column, ``float`` as Float64, all others as String; a missing cell is null.

        Raises:
            DatasetError: a line has more or fewer cells than the first, or a cell in a ``float``
                column is not a number.
        """
        kept = [column for column in self.columns if names is None or column.name in names]
        body = self._body()
        if not body:
            yield from (pl.Series(c.name, [], _DTYPES.get(c.kind, pl.String)) for c in kept)
            return
        lines = self._lines(body)
        has_quotes = b'"' in body
        del body
        for column in kept:
            cells = lines.select(_cells(column.name, has_quotes)).to_series()
            lines = lines.drop(column.name)
            yield self._numbers(cells) if column.kind == "float" else cells

    def _body(self) -> bytes:
        """The non-empty lines after the first, without the final line end."""
        data = self._data
        start, end = data.find(b"\n") + 1 or len(data), len(data)
        while start < end and data[start : start + 1] == b"\n":
            start += 1
        while end > start and data[end - 1 : end] == b"\n":
            end -= 1
        body = data[start:end]
        return re.sub(rb"\n{2,}", b"\n", body) if b"\n\n" in body else body

    def _lines(self, body: bytes) -> pl.DataFrame:
        separator = self.separator.encode()
        if body.count(separator) != (body.count(b"\n") + 1) * (len(self.columns) - 1):
            self._refuse_ragged_lines()
        if len(separator) > 1:
            body, separator = body.replace(separator, UNIT_SEPARATOR), UNIT_SEPARATOR
        try:
            return pl.read_csv(
                io.BytesIO(body),
                separator=separator.decode(),
                has_header=False,
                new_columns=[column.name for column in self.columns],
                infer_schema=False,
                quote_char=None,
            )
        except pl.exceptions.PolarsError as error:
            self._refuse_ragged_lines()
            raise DatasetError(f"{self.path}: not a readable table ({error})") from error

    def _refuse_ragged_lines(self) -> None:
        n_columns = len(self.columns)
        for number, line in enumerate(self._data.split(b"\n"), 1):
            n_cells = line.count(self.separator.encode()) + 1
            if line and n_cells != n_columns:
                raise DatasetError(
                    f"{self.path}: line {number} has {n_cells} cells, but the first line names "
                    f"{n_columns} columns: {line[:80].decode(errors='replace')!r}"
                )

    def _numbers(self, cells: pl.Series) -> pl.Series:
        numbers = cells.cast(pl.Float64, strict=False)
        wrong = (numbers.is_null() & cells.is_not_null()).arg_true()
        if len(wrong):
            raise DatasetError(
                f"{self.path}: column '{cells.name}:float' must contain numbers, but row "
                f"{wrong[0] + 2} has {cells[wrong[0]]!r} ({len(wrong)} such rows). Correct them, "
                f"or remove the column."
            )
        return numbers


def read_atomic_file(path, separator: str = "\t", encoding: str = "utf-8") -> pl.DataFrame:
    """All rows and columns of an atomic file, see :class:`AtomicFile`."""
    return AtomicFile(path, separator, encoding).table()


def write_atomic_file(path, table: pl.DataFrame, kinds: dict[str, str]) -> None:
    """Write a table as an atomic file, separated by tabs.

    Args:
        path: path of the file.
        table: columns by name; no text contains a tab or a line end.
        kinds: type of each column.
    """
    header = {name: f"{name}:{kinds[name]}" for name in table.columns}
    with whole_or_not(path) as temporary:
        table.rename(header).write_csv(temporary, separator="\t", float_scientific=False)


def _read_utf8(path: Path, encoding: str) -> bytes:
    """The text of a file as UTF-8, without a byte order mark, with lines ending in ``\\n``."""
    try:
        data = path.read_bytes()
        codec = codecs.lookup(encoding).name
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except LookupError as error:
        raise DatasetError(
            f"encoding {encoding!r} of {path} is unknown; common ones are utf-8, utf-16, latin-1"
        ) from error
    for name, marks in BYTE_ORDER_MARKS.items():
        if codec in ("utf-8", "utf-8-sig") and data.startswith(marks):
            raise DatasetError(
                f"{path}: the file is in {name}, not in {encoding}; give --encoding={name}, or "
                f"save it in utf-8"
            )
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        line = data[: getattr(error, "start", 0)].count(b"\n") + 1
        raise DatasetError(
            f"{path}: line {line} is not text in {encoding} ({error}); give the encoding of the "
            f"file with --encoding, or save it in utf-8"
        ) from error
    if codec not in ("utf-8", "utf-8-sig"):
        data = text.encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _columns(path: Path, data: bytes, separator: str) -> list[Column]:
    header = data.partition(b"\n")[0].decode()
    other = OTHER_SEPARATOR.search(header.replace(separator, UNIT_SEPARATOR.decode()))
    if other:
        raise DatasetError(
            f"{path}: its first line is {header!r}, whose columns are not separated by {separator!r}; "
            f"give their separator, e.g. --field_separator={other['mark']!r}"
        )
    cells = header.split(separator)
    columns = [Column(*map(str.strip, cell.rpartition(":")[::2])) for cell in cells]
    names = [column.name for column in columns]
    malformed = [cell for cell, c in zip(cells, columns, strict=True) if c.kind not in KINDS]
    if malformed or "" in names or len(set(names)) < len(names):
        raise DatasetError(
            f"{path}: its first line is {cells}; it must name unique columns, each with one of "
            f"the types {', '.join(KINDS)}, separated by {separator!r}, e.g. item_id:token"
        )
    return columns


def _cells(name: str, has_quotes: bool) -> pl.Expr:
    """A column without blanks around its cells and quotes of csv programs; null where empty."""
    cell = pl.col(name).str.strip_chars()
    if has_quotes:
        inner = cell.str.slice(1, cell.str.len_chars() - 2).str.replace_all('""', '"', literal=True)
        cell = pl.when(cell.str.contains(QUOTED)).then(inner).otherwise(cell)
    return pl.when(cell != "").then(cell).alias(name)
