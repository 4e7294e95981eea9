"""Kinds of values that a key may have, each with a description and a test."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from numbers import Integral, Real
from typing import NamedTuple


class Form(NamedTuple):
    """The form of a valid value.

    Attributes:
        words: description of one value, to follow 'it must be'.
        plural: description of several values.
        accepts: function that tells whether a value has the form.
        fields: forms of the fields of a mapping, by name.
        required: whether a mapping must have this field.
        partial: whether missing entries of a mapping keep their defaults.
    """

    words: str
    plural: str
    accepts: Callable[[object], bool]
    fields: dict[str, Form] | None = None
    required: bool = False
    partial: bool = False


def is_whole_number(value) -> bool:
    """Whether a value is an integer of Python or numpy, but not a bool."""
    return not isinstance(value, bool) and isinstance(value, Integral)


def is_number(value) -> bool:
    """Whether a value is a finite number."""
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


def is_interval(value) -> bool:
    """Whether a value is a RecBole filter of numbers: ``[5,inf)``, or several with semicolons."""
    return isinstance(value, str) and all(map(_is_range, value.split(";")))


def is_columns(value) -> bool:
    """Whether a value selects columns of a file: a list of names, or ``*`` for all."""
    return value == "*" or isinstance(value, list) and all(isinstance(v, str) for v in value)


def is_modalities(value) -> bool:
    """Whether a value is one or several unique names that can be part of a file name."""
    names = [value] if isinstance(value, str) else value
    plain = isinstance(names, list) and all(
        isinstance(name, str) and re.fullmatch(r"[^/\\:\0]+", name) for name in names
    )
    return plain and len(set(names)) == len(names)


def is_encoding(value) -> bool:
    """Whether a value is the name of a text encoding of Python."""
    try:
        return isinstance(value, str) and "a".encode(value) != b""
    except (LookupError, ValueError):
        return False


def is_split(value) -> bool:
    """Whether a value is a RecBole split of events: leave-one-out, or by ratio."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((how, parts),) = value.items()
    if how == "LS":
        return parts in ("valid_and_test", "valid_only", "test_only")
    ratios = how == "RS" and isinstance(parts, list) and len(parts) == 3
    return ratios and all(is_number(part) and part >= 0 for part in parts) and parts[0] > 0


def is_ranking(value) -> bool:
    """Whether a value selects RecBole's candidates, for validation and test together or
    separately."""
    if isinstance(value, dict):
        parts = set(value) <= {"valid", "test"}
        return bool(value) and parts and all(map(is_ranking, value.values()))
    names = r"full|labeled|(uni|pop)[1-9]\d*"
    return isinstance(value, str) and re.fullmatch(names, value) is not None


def _is_range(text: str) -> bool:
    found = re.fullmatch(r"\s*[\[(]([^,]+),([^,]+)[\])]\s*", text)
    try:
        return found is not None and float(found[1]) <= float(found[2])
    except ValueError:
        return False


def _is_a(kind: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kind)


ANYTHING = Form("any value", "any values", lambda _: True)
KINDS = {
    "None": Form("None", "None", lambda value: value is None),
    "bool": Form("True or False", "True or False", _is_a(bool)),
    "int": Form("a whole number", "whole numbers", is_whole_number),
    "float": Form("a number", "numbers", is_number),
    "str": Form("a string", "strings", _is_a(str)),
    "list": Form("a list", "lists", _is_a(list)),
    "dict": Form("a mapping {name: value}", "mappings {name: value}", _is_a(dict)),
    "interval": Form('a string like "[5,inf)"', 'strings like "[5,inf)"', is_interval),
    "values": Form(
        'a string like "[3,inf)" or a list of values',
        'strings like "[3,inf)" or lists of values',
        lambda value: is_interval(value) or isinstance(value, list),
    ),
    "columns": Form("a list of names or '*'", "lists of names or '*'", is_columns),
    "modalities": Form(
        "a name or a list of different names, without / \\ and :",
        "lists of different names",
        is_modalities,
    ),
    "encoding": Form("an encoding like utf-8", "encodings", is_encoding),
    "split": Form(
        "{LS: valid_and_test}, {LS: valid_only}, {LS: test_only} or {RS: [0.8, 0.1, 0.1]} "
        "(three ratios >= 0, the first > 0)",
        "splits",
        is_split,
    ),
    "ranking": Form(
        "full, labeled, uniN or popN (N sampled candidates), or {valid: ..., test: ...}",
        "rankings",
        is_ranking,
    ),
}
"""The form of each kind. ``interval`` and the kinds after it are RecBole's own notations."""
