"""Records that this package writes for itself: JSON objects with a seal, so that damage is noticed.

The seal is the SHA-256 of the other values.
"""

import json
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import write_json
from recbole_mm.tools.hashing import sha256_of_parts
from recbole_mm.tools.json_text import parse_json

SEAL = "sha256"


def write_record(path, values: dict) -> None:
    """Write a sealed record as JSON, as a whole or not at all."""
    write_json(path, sealed(values))


def read_record(path) -> dict | None:
    """The values of a record; ``None`` if the file does not exist.

    Raises:
        UserError: the file is damaged.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return unsealed(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}). Delete it to run again") from error


def sealed(values: dict) -> dict:
    """The values with their seal."""
    return {**values, SEAL: _seal_of(values)}


def unsealed(text: str) -> dict:
    """The values of a record's text.

    Raises:
        ValueError: the text is not a valid record.
    """
    record = parse_json(text)
    if not isinstance(record, dict) or record.pop(SEAL, None) != _seal_of(record):
        raise ValueError("its content has changed since it was written")
    return record


def _seal_of(values) -> str:
    as_read = json.loads(json.dumps(values))  # turns tuples into lists and keys into strings
    return sha256_of_parts([json.dumps(as_read, sort_keys=True)])
