"""What is read from files, and how a script ends when its input is bad."""

import json
import os
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from recbole_mm.tools.errors import UserError


class InputError(UserError):
    """Input that cannot be used; the message names the file, the value, the limit and the fix."""


def read_json(path):
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error}). Delete it and make it again.") from error


def load_arrays(path):
    """The array of an ``.npy`` file (mapped), or the arrays of an ``.npz``.

    Raises:
        InputError: it is neither, or holds Python objects, which are not read.
    """
    mode = "r" if str(path).endswith(".npy") else None
    try:
        return np.load(path, allow_pickle=False, mmap_mode=mode)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no readable .npy or .npz file ({error}).") from error


def today() -> str:
    """The day (UTC) that goes into a file; fixed by SOURCE_DATE_EPOCH for identical bytes."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    return now.date().isoformat()
