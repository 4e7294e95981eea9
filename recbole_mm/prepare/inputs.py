"""Reading of text files, and the error for input that cannot be used."""

import os
from datetime import datetime, timezone
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.text_files import read_text


class InputError(UserError):
    """Input that cannot be used; the message names the file, the value, the limit and the fix."""


def require_file(path, fix: str = "") -> None:
    """Check that a path is that of a file.

    Args:
        path: path to check.
        fix: what to do if it does not exist.

    Raises:
        InputError: it is not.
    """
    path = Path(path)
    if path.is_file():
        return
    if path.is_dir():
        raise InputError(f"{path}: it is a folder; give a file in it.")
    if path.exists():
        raise InputError(f"{path}: not a regular file, but a pipe or a device; give a file.")
    raise InputError(f"{path}: no such file.{fix and f' {fix}'}")


def read_lines(path) -> list[str]:
    """Lines of a text file in UTF-8, without surrounding blanks, and without empty ones at the end.

    Raises:
        InputError: the file is missing or not in UTF-8.
    """
    lines = [line.strip() for line in read_text(path, InputError).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def today() -> str:
    """The day (UTC) that goes into a file; fixed by SOURCE_DATE_EPOCH for identical bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    return now.date().isoformat()
