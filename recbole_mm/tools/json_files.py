"""JSON files and checks of their values."""

import types
import typing
from typing import Any

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.text_files import read_text

LARGEST = 10**308
"""Bound below which whole numbers count as a ``float``."""


class JsonError(UserError):
    """A file that is not JSON; the message names it."""


def read_json(path, error: type[UserError] = JsonError, most_bytes: int | None = None) -> Any:
    """The value of a JSON file.

    Raises:
        UserError: (type ``error``) the file cannot be opened, is too large, not UTF-8 or not JSON.
    """
    text = read_text(path, error, most_bytes)
    try:
        return parse_json(text)
    except ValueError as reason:
        raise error(f"{path}: not JSON ({reason})") from None


def fits(value, kind) -> bool:
    """Whether a value read from JSON matches a type annotation.

    An ``int`` has 64 bits. A whole number is also a ``float``, unless it is too large for one.

    Args:
        value: plain data.
        kind: ``int``, ``float``, ``str``, ``bool``, ``None``, ``list[...]``, ``dict[str, ...]``, a union
            of these, or ``Any``.
    """
    if kind is Any:
        return True
    if isinstance(kind, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(kind))
    container = typing.get_origin(kind)
    if container is not None:
        values = value.values() if isinstance(value, dict) else value
        part = typing.get_args(kind)[-1]
        return isinstance(value, container) and all(fits(each, part) for each in values)
    if kind is float:
        return type(value) is float or (type(value) is int and abs(value) < LARGEST)
    if kind is int and type(value) is int:
        return abs(value) < 2**63
    return type(value) is (type(None) if kind is None else kind)
