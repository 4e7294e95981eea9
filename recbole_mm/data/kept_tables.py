"""Tables of atomic files that are kept after they were read, so that they are not parsed again.

A file that took long to read is kept on disk, in a folder of the user's cache, and every file is
kept in memory within :func:`tables_in_memory`. The key of a table combines the SHA-256 of the
file's content, which is computed each time (a third of a second for 500 MB), all settings that
determine how the file is read, and the version of the format. Times and sizes of files are not
trusted, and later steps (filters, ids, splits) are repeated each time, so no other setting can
invalidate a table.

A kept table is one ``.npz`` file without pickled objects, moved to its name as a whole.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging import getLogger
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recbole_mm.data.atomic_files import Column
from recbole_mm.data.coded import MISSING, CodedTable, CodedTexts
from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import remove_abandoned, set_aside, whole_or_not
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.npz_files import NpzFile

FORMAT = 1
"""Version of the kept files; increase it if the result of
:func:`~recbole_mm.data.coded.coded_table` for a file changes."""

SLOW = 1.0
"""Processor seconds of reading above which a table is kept on disk; a busy machine or a slow disk
does not count."""

MOST_KEPT = 20
"""Maximum number of tables on disk; the least recently opened ones are removed."""

LETTERS_OF_KEY = 24
"""Number of letters of the key in the name of a table on disk."""

SWITCH_OFF = "data_cache: none disables this"

_in_memory: dict[str, CodedTable] | None = None


class Source(NamedTuple):
    """A file and how it is read.

    Attributes:
        path: path of the file.
        separator: separator between cells.
        encoding: encoding of the text.
        load: columns that are read; ``None``: all.
        unload: columns that are not read.
    """

    path: str
    separator: str
    encoding: str
    load: frozenset[str] | None = None
    unload: frozenset[str] | None = None

    def key(self) -> str | None:
        """A hash of everything the table depends on; ``None`` if the file cannot be read."""
        columns = [None if names is None else sorted(names) for names in self[3:]]
        try:
            content = sha256_of_file(self.path)
        except OSError:
            return None
        values = [FORMAT, content, self.separator, self.encoding, *columns]
        return sha256_of_parts([json.dumps(values)])


@contextmanager
def tables_in_memory() -> Iterator[None]:
    """Keep all tables in memory within the block, so that no file is parsed twice."""
    global _in_memory
    before = _in_memory
    _in_memory = {} if before is None else before
    try:
        yield
    finally:
        _in_memory = before


def cache_folder(setting: str | None) -> Path | None:
    """The folder of kept tables.

    Args:
        setting: ``data_cache``: a folder; ``auto``: ``recbole_mm`` in the user's cache folder;
            ``none`` or ``None``: no folder.
    """
    if setting in (None, "", "none"):
        return None
    if setting != "auto":
        return Path(setting)
    places = {"win32": os.environ.get("LOCALAPPDATA"), "darwin": "~/Library/Caches"}
    place = places.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    with suppress(RuntimeError):  # a user without a home
        return Path(place).expanduser() / "recbole_mm" / "tables"
    return None


def kept_table(source: Source, folder: Path | None, read: Callable[[], CodedTable]) -> CodedTable:
    """The table of a file: a kept one, or the result of ``read``.

    Args:
        source: file.
        folder: folder of kept tables on disk, or ``None``.
        read: function that reads the file.
    """
    key = None if folder is None and _in_memory is None else source.key()
    if key is None:
        return read()
    kept = (_in_memory or {}).get(key) or _open(folder, source, key)
    if kept is None:
        start = time.process_time()
        kept = read()
        seconds = time.process_time() - start
        if source.key() != key:  # another program has written to the file in the meantime
            return kept
        if folder is not None and seconds > SLOW and processes.is_first():
            _keep(_place(folder, source, key), key, kept, source, seconds)
    if _in_memory is not None:
        _in_memory[key] = kept
    return kept


def _place(folder: Path, source: Source, key: str) -> Path:
    return folder / f"{Path(source.path).name}-{key[:LETTERS_OF_KEY]}.npz"


def _open(folder: Path | None, source: Source, key: str) -> CodedTable | None:
    if folder is None:
        return None
    place = _place(folder, source, key)
    if not place.is_file():
        return None
    try:
        table = _read(place, key)
    except (UserError, ValueError, KeyError, TypeError) as error:
        with suppress(OSError):  # another user's folder
            set_aside(place, error)
        return None
    with suppress(OSError):
        os.utime(place)  # now the most recently opened, see MOST_KEPT
    getLogger().info(f"{source.path}: opened from its kept table {place} ({SWITCH_OFF})")
    return table


def _keep(place: Path, key: str, table: CodedTable, source: Source, seconds: float) -> None:
    try:
        with whole_or_not(place) as temporary, open(temporary, "wb") as file:
            np.savez(file, **_arrays(table, key))
        size = place.stat().st_size
        _remove_oldest(place.parent)
    except OSError as error:
        getLogger().warning(
            f"{source.path}: its table cannot be kept in {place.parent} "
            f"({error.strerror or error}), so the file is read again next time. Give another "
            f"folder with data_cache; {SWITCH_OFF}"
        )
        return
    getLogger().info(
        f"{source.path}: reading took {seconds:.0f} s. The table is kept in {place} "
        f"({size / 2**20:.0f} MB) and opens faster next time. It can be deleted; {SWITCH_OFF}"
    )


def _remove_oldest(folder: Path) -> None:
    """Remove the oldest of the files that are named as in :func:`_place`."""
    of_tables = f"*-{'[0-9a-f]' * LETTERS_OF_KEY}.npz"
    remove_abandoned(folder, of_tables)
    tables = [path for path in folder.glob(f"{of_tables}*") if not path.name.startswith(".")]
    for path in sorted(tables, key=_last_opened, reverse=True)[MOST_KEPT:]:
        with suppress(OSError):
            path.unlink()


def _last_opened(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another process has removed it
        return 0.0


def _arrays(table: CodedTable, key: str) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for place, values in enumerate(table.values.values()):
        if isinstance(values, CodedTexts):
            arrays[f"{place}.codes"] = values.codes
            arrays[f"{place}.texts"] = _bytes("\n".join(values.texts))  # no text has a line's end
        else:
            arrays[f"{place}.numbers"] = values
    n_texts = [len(v.texts) if isinstance(v, CodedTexts) else None for v in table.values.values()]
    about = {"key": key, "header": table.header, "columns": [*table.values], "n_texts": n_texts}
    return {"about": _bytes(json.dumps(about)), **arrays}


def _read(place: Path, key: str) -> CodedTable:
    file = NpzFile(place)
    about = parse_json(file.read("about").tobytes().decode())
    if about["key"] != key:
        raise ValueError("it is the table of another file")
    columns = zip(about["columns"], about["n_texts"], strict=True)
    values = {name: _column(file, place, n) for place, (name, n) in enumerate(columns)}
    lengths = {len(v.codes if isinstance(v, CodedTexts) else v) for v in values.values()}
    if len(lengths) > 1:
        raise ValueError(f"its columns have different lengths, {sorted(lengths)}")
    return CodedTable([Column(*column) for column in about["header"]], values)


def _column(file: NpzFile, place: int, n_texts: int | None) -> np.ndarray | CodedTexts:
    if n_texts is None:
        numbers = file.read(f"{place}.numbers")
        if numbers.dtype != np.float64 or numbers.ndim != 1:
            raise ValueError(f"column {place} is not a column of numbers")
        return numbers
    codes = file.read(f"{place}.codes")
    joined = file.read(f"{place}.texts").tobytes().decode()
    texts = joined.split("\n") if n_texts else []
    bounds = (codes.min(initial=0), codes.max(initial=MISSING))
    if codes.dtype != np.int32 or codes.ndim != 1 or len(texts) != n_texts:
        raise ValueError(f"column {place} is not a column of texts")
    if bounds[0] < MISSING or bounds[1] >= n_texts:
        raise ValueError(f"column {place} has codes {bounds[0]} to {bounds[1]} of {n_texts} texts")
    return CodedTexts(codes, texts)


def _bytes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)
