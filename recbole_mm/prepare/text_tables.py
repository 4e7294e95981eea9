"""Separated text and JSON lines, read line by line: headers, copies in UTF-8, and faults by line.

The tables themselves are read by polars (:mod:`recbole_mm.prepare.table_files`).
"""

import contextlib
import csv
import gzip
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO

from recbole_mm.prepare.formats import (
    JSON_LINES,
    TextFormat,
    encoding_of,
    ending_of,
    is_packed,
    separator_of,
)
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.files import naming
from recbole_mm.tools.json_text import parse_json

MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8"}
LONGEST_FIELD = min(sys.maxsize, 2**31 - 1)
LONGEST_START = 1 << 16
"""Number of characters that show how lines end."""


@contextlib.contextmanager
def open_text(path, text: TextFormat) -> Iterator[IO[str]]:
    """A text file, packed or not, without its byte order mark.

    Raises:
        InputError: the file is not in this encoding, or the packed file is damaged.
    """
    opened = gzip.open if is_packed(path) else open
    encoding = encoding_of(path, text)
    try:
        name = "utf-8-sig" if encoding == "utf-8" else encoding
        with opened(path, "rt", encoding=name, newline="") as file:
            yield file
    except UnicodeError as error:
        raise InputError(f"{path}: {_not_in(encoding, path, text, error)}") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: damaged or truncated .gz ({error}). Get it again.") from error
    except csv.Error as error:
        raise InputError(f"{path}: not a readable table ({error}).") from error


def _not_in(encoding: str, path, text: TextFormat, error: UnicodeError) -> str:
    guess = MARKS.get(first_bytes(path, 2), "latin-1 or cp1252")
    fix = "Name its encoding with --encoding, perhaps {}, or save the file in UTF-8."
    if "--encoding" not in text.options or ending_of(path) in JSON_LINES:
        fix = "Save it in UTF-8; it may be in {}."
    return f"not in {encoding} ({error}). {fix.format(guess)}"


def first_bytes(path, n: int) -> bytes:
    """The first bytes of the text, packed or not."""
    with (gzip.open if is_packed(path) else open)(path, "rb") as file:
        return file.read(n)


def in_utf8(path, text: TextFormat, scratch) -> Path:
    """The file itself, or a copy in the folder ``scratch``, in UTF-8 that polars reads."""
    path = Path(path)
    is_json = ending_of(path) in JSON_LINES
    has_mark = is_json and MARKS.get(first_bytes(path, 3)) == "utf-8"
    by_cr = _ends_lines_by_cr(path, text)
    if encoding_of(path, text) == "utf-8" and not (has_mark or by_cr):
        return path
    copy = Path(scratch) / f"utf8-{path.stem if is_packed(path) else path.name}"
    with (
        open_text(path, text) as source,
        naming(copy),
        open(copy, "w", encoding="utf-8", newline="") as target,
    ):
        while part := source.read(1 << 20):
            target.write(part.replace("\r", "\n") if by_cr else part)
    return copy


def _ends_lines_by_cr(path: Path, text: TextFormat) -> bool:
    """Whether lines end with CR alone, as old programs for Macintosh write them."""
    with open_text(path, text) as file:
        start = file.read(LONGEST_START)
    return "\r" in start and "\n" not in start


def read_header(path, text: TextFormat) -> list[str]:
    """Column names of separated text, without surrounding blanks; unnamed columns get a name.

    Raises:
        InputError: the file is empty, a name is a duplicate, or the number of fields in the first
            line differs from that in ``text.header``.
    """
    names = first_record(path, text)
    if not names:
        raise InputError(
            f"{path}: it is empty; expected the names of the columns in the first line."
        )
    if not text.header:
        return checked_header(path, names)
    if len(names) != len(text.header):
        raise InputError(
            f"{path}: line 1 has {len(names)} fields, expected {len(text.header)}: "
            f"{', '.join(text.header)}."
        )
    return list(text.header)


def first_record(path, text: TextFormat) -> list[str]:
    """The fields of the first line of separated text, empty for an empty file."""
    return next(read_records(path, text), [])


def read_records(path, text: TextFormat) -> Iterator[list[str]]:
    """The fields of each line of separated text, the first line included.

    Raises:
        InputError: the file is in another encoding, or damaged.
    """
    with open_text(path, text) as file:
        yield from _records(file, separator_of(path, text), text.quotes)


def checked_header(path, names: Sequence[str | None]) -> list[str]:
    """Stripped names, ``column_<n>`` for those that are blank.

    Raises:
        InputError: a name is a duplicate.
    """
    stripped = [(name or "").strip() for name in names]
    repeated = sorted({name for name in stripped if name and stripped.count(name) > 1})
    if repeated:
        places = [number for number, name in enumerate(stripped, 1) if name == repeated[0]]
        raise InputError(
            f"{path}: duplicate column name {repeated[0]!r} (columns {places}); rename one of them."
        )
    return [name or f"column_{number}" for number, name in enumerate(stripped, 1)]


def first_fault(path, text: TextFormat) -> str | None:
    """What is wrong with the first unreadable line, and a fix; ``None`` if all are readable."""
    try:
        with open_text(path, text) as file:
            if ending_of(path) in JSON_LINES:
                return _fault_of_json(file)
            return _fault_of_records(file, separator_of(path, text), text)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")


def _fault_of_json(file: IO[str]) -> str | None:
    is_empty = True
    for number, line in enumerate(file, 1):
        is_empty = is_empty and not line.strip()
        try:
            value = parse_json(line) if line.strip() else {}
        except ValueError as error:
            return f"line {number} is not JSON ({error}); fix it, or get the file again."
        if not isinstance(value, dict):
            return f'line {number} is not a JSON object, as in {{"item": "a", "title": ...}}.'
    return "it is empty; expected a JSON object in every line." if is_empty else None


def _fault_of_records(file: IO[str], separator: str, text: TextFormat) -> str | None:
    lines = _CountedQuotes(file)
    records = _records(lines, separator, text.quotes, strict=True)
    width = len(text.header or next(records, []))
    limit = f"expected {width}" if text.header else f"the header has {width}"
    lines.quotes = 0
    try:
        for record in records:
            if len(record) > width:
                return (
                    f"line {records.line_num} has {len(record)} fields, {limit}. "
                    f"{_separator_fix(separator, text)}"
                )
            if text.quotes and lines.quotes % 2:
                fix = _quotes_fix(text)
                return f"line {records.line_num}: a quote inside an unquoted field. {fix}"
            lines.quotes = 0
    except csv.Error as error:
        return _malformed(records.line_num, error, text)
    return None


def _separator_fix(separator: str, text: TextFormat) -> str:
    other = ", or name another --separator" if "--separator" in text.options else ""
    return f"Quote fields that hold the separator {separator!r}{other}."


def _quotes_fix(text: TextFormat) -> str:
    other = ", or read them as plain characters with --no-quotes"
    return f"Fix the quotes{other if '--no-quotes' in text.options else ''}."


class _CountedQuotes:
    """The lines of a file, with the number of quotes in those read so far."""

    def __init__(self, file: IO[str]):
        self.file, self.quotes = file, 0

    def __iter__(self):
        for line in self.file:
            self.quotes += line.count('"')
            yield line


def short_rows(path, text: TextFormat) -> tuple[int, int]:
    """How many rows of separated text have fewer fields than the header, and the line of the first.

    Raises:
        InputError: quotes are malformed.
    """
    count = first = 0
    with open_text(path, text) as file:
        records = _records(file, separator_of(path, text), text.quotes, strict=True)
        width = len(text.header or next(records, []))
        try:
            for record in records:
                if 0 < len(record) < width:
                    count += 1
                    first = first or records.line_num
        except csv.Error as error:
            raise InputError(f"{path}: {_malformed(records.line_num, error, text)}") from error
    return count, first


def line_of_row(path, text: TextFormat, row: int) -> int:
    """The line in which a row begins, counted from 1.

    Args:
        path: path of separated text or JSON lines.
        text: format of separated text.
        row: number of the row, counted from 0; blank lines count in separated text only.
    """
    with open_text(path, text) as file:
        if ending_of(path) in JSON_LINES:
            filled = (number for number, line in enumerate(file, 1) if line.strip())
            return next(islice(filled, row, None))
        records = _records(file, separator_of(path, text), text.quotes)
        for _ in islice(records, row + (not text.header)):
            pass
        return records.line_num + 1


def _malformed(line: int, error: csv.Error, text: TextFormat) -> str:
    return f"line {line}: {error}: is a quote not closed? {_quotes_fix(text)}"


def _records(lines: Iterable[str], separator: str, quotes: bool, strict: bool = False):
    csv.field_size_limit(LONGEST_FIELD)
    if quotes:
        return csv.reader(lines, delimiter=separator, strict=strict)
    return csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
