"""Search spaces: files in RecBole's format, read without evaluating what they hold."""

import ast
import math
import sys
from decimal import Decimal
from pathlib import Path

from recbole_mm.config.checks import refuse_wrong_values
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import keys_of_other_models, refuse_unknown_keys
from recbole_mm.config.models import model_name
from recbole_mm.config.own_models import own_models
from recbole_mm.config.property_files import properties_dir
from recbole_mm.config.values import parse_value
from recbole_mm.tools.text_files import read_text

NUMBERS = {"uniform": 2, "loguniform": 2, "quniform": 3}
"""Number of values that define a range."""

ROUNDING = 1e-9
"""Tolerance for a quotient: 0.3 / 0.1 is a little less than 3."""

SPACE_FORMAT = (
    "`key choice [a,b]`, `key uniform low,high`, `key loguniform low,high`, "
    "`key quniform low,high,step`"
)


def search_space_of(model: str) -> Path:
    """The path of a model's search space, if there is one: in this package, or next to the module
    of the user's own model."""
    own = own_models().get(model)
    beside = own and own.file(".hyper")
    return beside or properties_dir() / "tuning" / f"{model}.hyper"


def read_search_space(path: Path, fixed: dict) -> dict[str, dict[str, list]]:
    """Read a search space.

    Args:
        path: file of lines ``key choice [a,b]``, ``key uniform low,high``,
            ``key loguniform low,high`` (of natural logarithms) or ``key quniform low,high,step``;
            empty lines and those that begin with ``#`` are skipped.
        fixed: ``model`` and all other keys that are not searched.

    Returns:
        ``{type: {key: values}}``, HyperTuning's ``params_dict``.

    Raises:
        ConfigError: there is no such file, or it has a line in another format, a duplicate or
            unknown key, a key that the model does not read, a value or an end of a range that its
            key cannot have, an empty range, a range of ``loguniform`` that is not in logarithms, or
            nothing to search.
    """
    if not path.is_file():
        known = sorted(file.stem for file in search_space_of("*").parent.glob("*.hyper"))
        raise ConfigError(
            f"search space {str(path)!r} does not exist. The package has search spaces for "
            f"{', '.join(known)}; give another with --space=FILE, a line like "
            f"`learning_rate choice [0.001,0.01]` per key"
        )
    model = model_name(fixed["model"])
    space: dict[str, dict[str, list]] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(read_text(path, ConfigError).splitlines(), 1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#") or words[0] in fixed:
            continue
        where = f"search space {str(path)!r}, line {number}"
        key = words[0]
        if key in lines:
            raise ConfigError(f"{where}: duplicate key {key!r}, first in line {lines[key]}")
        lines[key] = number
        kind, values = _read_line(line, where)
        _refuse_impossible_values(model, key, kind, values, where)
        space.setdefault(kind, {})[key] = values
    if not space:
        raise ConfigError(
            f"search space {str(path)!r}: every key is given, so there is nothing to search"
        )
    return space


def _read_line(line: str, where: str) -> tuple[str, list]:
    """Type and values of a key."""
    words = line.split(maxsplit=2)
    values = _read_values(words[1], words[2]) if len(words) == 3 else None
    if values is None:
        raise ConfigError(f"{where}: {line!r} is not one of {SPACE_FORMAT}")
    return words[1], values


def _refuse_impossible_values(model: str, key: str, kind: str, values: list, where: str) -> None:
    refuse_unknown_keys([key], where)
    if keys_of_other_models(model, [key]):
        raise ConfigError(f"{where}: {model} does not read {key}: remove the line")
    if kind in NUMBERS:
        given = ",".join(map(str, values))
        _refuse_impossible_range(kind, values, f"{where}: '{key} {kind} {given}'")
    for value in values if kind == "choice" else values[:2]:
        refuse_wrong_values({key: DRAWN[kind](value)}, where, model)


def _refuse_impossible_range(kind: str, values: list, line: str) -> None:
    low, high = values[:2]
    largest = math.log(sys.float_info.max) if kind == "loguniform" else sys.float_info.max
    if not all(abs(value) <= largest for value in values):
        raise ConfigError(f"{line}: give numbers from {-largest:.4g} to {largest:.4g}")
    if low >= high or min(values[2:], default=1) <= 0:
        raise ConfigError(f"{line}: write the lower end first, and a step > 0")
    if kind == "quniform":
        first, last = multiples(*values)
        if first > last:
            raise ConfigError(f"{line}: no multiple of {values[2]} lies between {low} and {high}")
    if kind == "loguniform" and 0 < low < high <= 1:
        raise ConfigError(
            f"{line} searches from exp({low}) = {math.exp(low):.5g} to exp({high}) = "
            f"{math.exp(high):.5g}, as RecBole's loguniform takes natural logarithms; for {low} to "
            f"{high} write `loguniform {math.log(low):.4g},{math.log(high):.4g}`"
        )


def multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """The first and the last multiple of a step from ``low`` to ``high``, as numbers of steps."""
    return math.ceil(low / step - ROUNDING), math.floor(high / step + ROUNDING)


def multiple(number: int, step: float) -> float:
    """The product of number and step, with the decimals of the step: 0.3 for 3 and 0.1."""
    return float(number * Decimal(str(step)))


def searched(space: dict[str, dict[str, list]]) -> list[str]:
    """What is drawn for each key, one line per key."""
    lines = []
    for kind, keys in space.items():
        for key, values in keys.items():
            if kind == "choice":
                lines.append(f"{key}: one of {values}")
                continue
            low, high = (DRAWN[kind](value) for value in values[:2])
            step = f" in steps of {values[2]}" if kind == "quniform" else ""
            lines.append(f"{key}: {low:.5g} to {high:.5g}{step} ({kind})")
    return lines


def refuse_ranges(space: dict[str, dict[str, list]], path: Path) -> None:
    """Refuse a space with ranges: only choices have a grid.

    Args:
        space: search space from :func:`read_search_space`.
        path: path of the file, for the message.

    Raises:
        ConfigError: a key has a range.
    """
    ranges = [key for kind, keys in space.items() if kind in NUMBERS for key in keys]
    if ranges:
        raise ConfigError(
            f"search space {str(path)!r}: {', '.join(ranges)}: only a `choice` has a grid; "
            f"write choices, or give --algorithm=random"
        )


def read_drawn(value):
    """A value of a choice; text is read as on the command line."""
    return parse_value(value) if isinstance(value, str) else value


DRAWN = {"choice": read_drawn, "uniform": float, "loguniform": math.exp, "quniform": read_drawn}
"""Conversions of a value, or of an end of a range, from the file to what is drawn."""


def _read_values(kind: str, text: str) -> list | None:
    """The values of a line; ``None`` if they do not fit its type."""
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    if kind == "choice":
        return values if isinstance(values, list) and values else None
    numbers = isinstance(values, tuple) and all(type(value) in (int, float) for value in values)
    return list(values) if numbers and len(values) == NUMBERS.get(kind) else None
