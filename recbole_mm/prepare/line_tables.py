"""Text files that are not tables of columns, read line by line into tables that polars streams.

``sequences``
    one user per line, a tab, and the items of this user in the order of events, separated by blanks.
``titles``
    one item per line, a comma, and the title as it is: it may contain commas and unclosed quotes.
    A quoted title loses its quotes, and may span several lines.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from recbole_mm.prepare.formats import TextFormat
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.text_tables import open_text
from recbole_mm.tools.path_patterns import pattern_of

ROWS_PER_PART = 500_000
NUMBERED = re.compile(r"\d+,")
NAMES_OF_ITEM = ("item", "item_id", "itemid", "video", "video_id", "videoid")
"""Possible first fields of a line that names the columns, in lower case."""


def scan_lines(path, text: TextFormat, scratch) -> pl.LazyFrame:
    """Open a file of one of these forms (``text.lines``).

    Args:
        path: path of the file, also ``.gz``.
        text: form and encoding of the file.
        scratch: folder for the parts of the table, as parquet files.

    Returns:
        ``user, item`` of sequences, in the order of the file; ``item, title`` of titles.

    Raises:
        InputError: a line does not have the form; the message shows the line and its number.
    """
    if text.lines == "sequences":
        names, rows = ["user", "item"], _events(path, text)
    else:
        names, rows = ["item", "title"], _titles(path, text)
    parts: list[Path] = []
    while part := list(islice(rows, ROWS_PER_PART)):
        parts.append(Path(scratch) / f"{Path(path).name}.{len(parts):06d}.parquet")
        pl.DataFrame(part, dict.fromkeys(names, pl.String), orient="row").write_parquet(parts[-1])
    if not parts:
        raise InputError(f"{path}: it is empty; expected {' and '.join(names)} in every line.")
    return pl.scan_parquet(list(map(pattern_of, parts)))


def _events(path, text: TextFormat) -> Iterator[tuple[str, str]]:
    for number, line in _numbered(path, text):
        user, _, items = line.partition("\t")
        tokens = items.split()
        if line.strip() and not (user.strip() and tokens):
            raise InputError(
                f"{path}: line {number} is {line[:80]!r}; expected a user, a tab and the items of this "
                f"user, separated by blanks."
            )
        yield from ((user, token) for token in tokens)


def _titles(path, text: TextFormat) -> Iterator[tuple[str, str]]:
    item, title = "", ""
    for number, line in _numbered(path, text):
        first, comma, rest = line.partition(",")
        if number == 1 and first.strip().lower() in NAMES_OF_ITEM:
            continue
        if item and _is_open(title) and not NUMBERED.match(line):
            title = f"{title}\n{line}"
            continue
        if item:
            yield item, _without_quotes(title)
        if line.strip() and not (first.strip() and comma):
            raise InputError(
                f"{path}: line {number} is {line[:80]!r}; expected an item, a comma and its title."
            )
        item, title = first.strip(), rest
    if item:
        yield item, _without_quotes(title)


def _numbered(path, text: TextFormat) -> Iterator[tuple[int, str]]:
    with open_text(path, text) as file:
        for number, line in enumerate(file, 1):
            yield number, line.rstrip("\r\n")


def _is_open(title: str) -> bool:
    return title.startswith('"') and title.count('"') % 2 == 1


def _without_quotes(title: str) -> str:
    """The content of a title that is quoted as in csv; any other title unchanged."""
    inside = title[1:-1].replace('""', "")
    if len(title) > 1 and title[0] == title[-1] == '"' and '"' not in inside:
        return title[1:-1].replace('""', '"')
    return title
