"""Tables of any format, opened without being read, and columns picked from them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from recbole_mm.prepare.formats import (
    EXCEL,
    JSON_LINES,
    PARQUET,
    PLAIN,
    TextFormat,
    ending_of,
    is_separated,
    refuse_unreadable,
    separator_of,
)
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.line_tables import scan_lines
from recbole_mm.prepare.text_tables import (
    checked_header,
    first_fault,
    in_utf8,
    line_of_row,
    read_header,
)
from recbole_mm.tools.errors import first_line
from recbole_mm.tools.names import nearest
from recbole_mm.tools.path_patterns import pattern_of

OTHER_SEPARATORS = {";": ";", "\t": "tab", "|": "|", ",": ","}


def scan_table(path, text: TextFormat = PLAIN, scratch=None) -> pl.LazyFrame:
    """Open a table without reading it; see :data:`~recbole_mm.prepare.formats.TABLE_ENDINGS`.

    Separated text, Excel sheets and single JSON values are read as text; JSON lists stay lists, and
    parquet keeps its types.

    Args:
        path: path of the file; only the first sheet of an Excel file is read.
        text: format of separated text.
        scratch: folder for a copy in UTF-8, if the file is in another encoding.

    Raises:
        InputError: the file is missing, empty or of an unknown format, or a column is a duplicate.
    """
    refuse_unreadable(path, text)
    if Path(path).stat().st_size == 0 and ending_of(path) in (*PARQUET, EXCEL):
        raise InputError(f"{path}: it is empty; expected a table. Get it again.")
    with reading(path, text):
        if text.lines != "columns":
            return scan_lines(path, text, scratch)
        if ending_of(path) in PARQUET:
            return pl.scan_parquet(pattern_of(path))
        if ending_of(path) == EXCEL:
            return _first_sheet(path).lazy()
        if ending_of(path) in JSON_LINES:
            return _scan_json_lines(in_utf8(path, text, scratch))
        return _scan_separated(path, text, scratch)


def _scan_separated(path, text: TextFormat, scratch) -> pl.LazyFrame:
    return pl.scan_csv(
        pattern_of(in_utf8(path, text, scratch)),
        separator=separator_of(path, text),
        has_header=not text.header,
        quote_char='"' if text.quotes else None,
        infer_schema=False,
        new_columns=read_header(path, text),
    )


def _scan_json_lines(path) -> pl.LazyFrame:
    """A first pass finds the types; numbers then stay as they are written: an id of 7 is ``7``."""
    types = pl.scan_ndjson(pattern_of(path), infer_schema_length=None).collect_schema()
    single = {name: pl.String for name, dtype in types.items() if not dtype.is_nested()}
    return pl.scan_ndjson(pattern_of(path), infer_schema_length=None, schema_overrides=single)


def _first_sheet(path) -> pl.DataFrame:
    try:
        import fastexcel  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{path}: Excel files need pip install 'recbole_mm[excel]'") from error
    try:
        with open(path, "rb") as file:  # polars expands patterns in a path
            sheet = pl.read_excel(
                file, has_header=False, infer_schema_length=0, drop_empty_cols=False
            )
    except Exception as error:  # readers of damaged files raise many types
        reason = first_line(error)
        raise InputError(f"{path}: not a readable Excel file ({reason}). Save it again.") from error
    names = checked_header(path, list(sheet.row(0)))
    return sheet.slice(1).rename(dict(zip(sheet.columns, names, strict=True)))


@contextlib.contextmanager
def reading(path, text: TextFormat = PLAIN) -> Iterator[None]:
    """Turn what polars reports about a malformed table into an error that names the file, and the
    line of a text file that cannot be read."""
    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        is_text = ending_of(path) in JSON_LINES or is_separated(path, text)
        reason = first_fault(path, text) if is_text and Path(path).is_file() else None
        reason = reason or first_line(error)
        raise InputError(f"{path}: not a readable table: {reason}") from error


def pick_columns(
    table: pl.LazyFrame,
    columns: dict[str, str | None],
    path,
    options: dict[str, str],
    text: TextFormat = PLAIN,
    number: str | None = None,
) -> pl.LazyFrame:
    """Select columns under our names; rows without any of them, such as blank lines, are skipped.

    Args:
        table: any table.
        columns: our name -> the file's; ``None`` selects the column of our own name, if any.
        path: path of the file, for the message.
        options: our name -> how a user names this column on the command line.
        text: format of separated text, for the message.
        number: name of an added first column with the number of each row in the file, from 0;
            ``None`` adds none.

    Raises:
        InputError: a named column is not in the file.
    """
    existing = table.collect_schema().names()
    wanted = {
        ours: theirs or ours for ours, theirs in columns.items() if theirs or ours in existing
    }
    absent = {ours: theirs for ours, theirs in wanted.items() if theirs not in existing}
    if absent:
        raise InputError(f"{path}: {_absent(absent, existing, options, text)}")
    picked = table.select(pl.col(theirs).alias(ours) for ours, theirs in wanted.items())
    if number:
        picked = picked.with_row_index(number)
    return picked.filter(~pl.all_horizontal(pl.col(*wanted).is_null()))


def place_of_row(path, text: TextFormat | None, row: int) -> str:
    """Where a row of :func:`scan_table` is: its line in a text table, as in an editor, else its number.

    Args:
        path: path of the table.
        text: text format of the table; ``None``: its lines are not rows.
        row: number of the row, from 0.
    """
    if text is not None and (ending_of(path) in JSON_LINES or is_separated(path, text)):
        return f"line {line_of_row(path, text, row)}"
    return f"row {row + 1}"


def _absent(
    absent: dict[str, str], existing: list[str], options: dict[str, str], text: TextFormat
) -> str:
    lines = []
    for ours, theirs in absent.items():
        near = nearest(theirs, existing)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        lines.append(f"no column {theirs!r}: name it with {options.get(ours, '--' + ours)}{hint}")
    message = f"{'; '.join(lines)}. The file has {existing}."
    others = [name for mark, name in OTHER_SEPARATORS.items() if mark in existing[0]]
    if len(existing) == 1 and others and "--separator" in text.options:
        message += (
            f" Are its columns separated by {others[0]!r}? Add --separator={_quoted(others[0])}."
        )
    return message


def _quoted(separator: str) -> str:
    return separator if separator.isalpha() or separator == "," else f"'{separator}'"
