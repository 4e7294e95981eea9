"""What is read from files, and the error of input that cannot be used."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path

from recbole_mm.tools.errors import UserError


class InputError(UserError):
    """Input that cannot be used; the message names the file, the value, the limit and the fix."""


def read_json(path):
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}). Delete it and create it again.") from error


def today() -> str:
    """The day (UTC) that goes into a file; fixed by SOURCE_DATE_EPOCH for identical bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    return now.date().isoformat()
