"""Tables from a pipe: the standard input, or what a shell puts in place of a file."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.variables import is_one_of_several

STANDARD_INPUT = Path("-")
BEGINNINGS = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz", b"{": ".jsonl"}
"""First bytes of a table, and the suffix of such files; all others are csv."""


def is_stream(path: Path) -> bool:
    """Whether a path names the standard input (``-``), a pipe or a device."""
    is_file = os.path.isfile(path) or os.path.isdir(path)
    return path == STANDARD_INPUT or (os.path.exists(path) and not is_file)


def refuse_shared_stream(option: str, path: Path) -> None:
    """Check that no other process reads the same stream.

    Raises:
        UserError: torchrun has started several processes.
    """
    if is_one_of_several():
        raise UserError(f"{option}={path}: several processes cannot read a pipe; give a file")


@contextmanager
def as_file(path: Path | None) -> Iterator[Path | None]:
    """The path itself, or that of a temporary file with the content of a stream.

    Args:
        path: path of a file or a stream, or ``None``.
    """
    if path is None or not is_stream(path):
        yield path
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        kept = Path(folder, "stream")
        opened = nullcontext(sys.stdin.buffer) if path == STANDARD_INPUT else path.open("rb")
        with opened as source, kept.open("wb") as file:
            shutil.copyfileobj(source, file)
        with kept.open("rb") as file:
            first = file.read(4)
        fitting = (suffix for start, suffix in BEGINNINGS.items() if first.startswith(start))
        yield kept.rename(kept.with_suffix(next(fitting, ".csv")))
