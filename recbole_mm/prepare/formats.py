"""The formats of table files, known by their names, and how their text is read."""

import codecs
from pathlib import Path
from typing import Literal, NamedTuple

from recbole_mm.prepare.inputs import InputError, require_file

SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")
EXCEL = ".xlsx"
PACKED = ".gz"
TEXT_ENDINGS = (*SEPARATORS, *JSON_LINES)
TABLE_ENDINGS = (*TEXT_ENDINGS, *(f"{ending}{PACKED}" for ending in TEXT_ENDINGS), *PARQUET, EXCEL)
"""Suffixes of the files that are read as tables without further options."""


TEXT_OPTIONS = ("--separator", "--encoding", "--no-quotes")
"""Options of a command by which a user says how separated text is written."""


class TextFormat(NamedTuple):
    """How separated text (csv, tsv) is written; JSON lines are always UTF-8.

    Attributes:
        separator: one character between columns; ``None``: a comma in ``.csv``, a tab in ``.tsv``.
        encoding: name of the encoding.
        quotes: whether ``"..."`` may enclose a field; if not, quotes are ordinary characters.
        header: names of the columns, if the file has no header line.
        lines: what a line holds: ``columns``; ``sequences``, a user and all items of this user; or
            ``titles``, an item and its title (:mod:`recbole_mm.prepare.line_tables`).
        options: those of :data:`TEXT_OPTIONS` that the command accepts; messages suggest no others.
    """

    separator: str | None = None
    encoding: str = "utf-8"
    quotes: bool = True
    header: tuple[str, ...] = ()
    lines: Literal["columns", "sequences", "titles"] = "columns"
    options: tuple[str, ...] = TEXT_OPTIONS


PLAIN = TextFormat()
FIXED = TextFormat(options=())
"""Format for commands that have no options for it."""


def ending_of(path) -> str:
    """``.csv``, ``.jsonl``, ... of a file's name, in lower case and without ``.gz``."""
    path = Path(path)
    return Path(path.stem if is_packed(path) else path.name).suffix.lower()


def is_packed(path) -> bool:
    """Whether the file's name ends in ``.gz``."""
    return Path(path).suffix.lower() == PACKED


def is_separated(path, text: TextFormat) -> bool:
    """Whether a file is separated text: by its name, or because its separator is given."""
    ending = ending_of(path)
    if text.lines != "columns":
        return False
    if ending in JSON_LINES or ending in PARQUET or ending == EXCEL:
        return False
    return ending in SEPARATORS or text.separator is not None


def separator_of(path, text: TextFormat) -> str:
    """What separates the columns of separated text; ``.tsv`` always has tabs."""
    ending = ending_of(path)
    return SEPARATORS[ending] if ending == ".tsv" else text.separator or SEPARATORS[ending]


def encoding_of(path, text: TextFormat) -> str:
    """The encoding of a file; JSON lines are always in UTF-8."""
    return "utf-8" if ending_of(path) in JSON_LINES else text.encoding


def refuse_unreadable(path, text: TextFormat = PLAIN) -> None:
    """Check that the file exists and that its format is known.

    Raises:
        InputError: the file does not exist, or its format is unknown.
    """
    path = Path(path)
    require_file(path)
    known = path.name.lower().endswith(TABLE_ENDINGS)
    if not known and (not is_separated(path, text) or ending_of(path) in TABLE_ENDINGS):
        others = ", and other text files whose separator is given (--separator)"
        raise InputError(
            f"{path}: format {''.join(path.suffixes[-2:])!r} is unknown; known formats are "
            f"{', '.join(TABLE_ENDINGS)}{others if '--separator' in text.options else ''}."
        )


def parse_separator(text: str) -> str:
    """One character, ``tab`` or ``\\t``.

    Raises:
        ValueError: anything else.
    """
    character = {"tab": "\t", "\\t": "\t"}.get(text, text)
    if len(character) != 1 or not character.isascii() or character in '"\r\n':
        raise ValueError(text)
    return character


def parse_encoding(text: str) -> str:
    """The name of an encoding that Python knows, without the byte order mark of ``utf-8-sig``.

    Raises:
        ValueError: the encoding is unknown.
    """
    try:
        name = codecs.lookup(text).name
        "".encode(name)
    except LookupError as error:  # unknown, or not a text encoding
        raise ValueError(text) from error
    return "utf-8" if name == "utf-8-sig" else name
