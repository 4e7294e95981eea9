"""What is read from files, and the error of input that cannot be used."""

import os
from datetime import datetime, timezone
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_text import parse_json


class InputError(UserError):
    """Input that cannot be used; the message names the file, the value, the limit and the fix."""


def read_json(path):
    """A file of JSON.

    Raises:
        InputError: it is not.
    """
    path = Path(path)
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise InputError(f"{path}: not JSON ({error}). Delete it and create it again.") from error


def read_lines(path) -> list[str]:
    """Lines of a text file in UTF-8, without blanks around them and without empty ones at the end.

    Raises:
        InputError: it is missing or not in UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not in UTF-8 ({error}). Save it in that encoding.") from error
    while lines and not lines[-1]:
        lines.pop()
    return lines


def today() -> str:
    """The day (UTC) that goes into a file; fixed by SOURCE_DATE_EPOCH for identical bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    return now.date().isoformat()
