"""Options of a command line as Python values."""

import ast

import yaml

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import YamlLoader


def parse_overrides(arguments) -> dict:
    """``--key=value`` and ``--key value`` as a dict of Python values.

    A value is a Python literal, else what yaml reads (``~``, ``true``, ``[text, image]``,
    ``1e-3``), else the string itself. It may hold spaces and ``=``.

    Raises:
        ConfigError: something is no option, an option has no value, or it stands there twice with
            different values.
    """
    overrides = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(f"{argument!r} is no option: write --key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} has no value: write --{key}=VALUE, e.g. --{key}=True")
            value = rest.pop(0)
        parsed = parse_value(value)
        if key in overrides and overrides[key] != parsed:
            raise ConfigError(f"--{key} is given twice: {overrides[key]!r} and {parsed!r}")
        overrides[key] = parsed
    return overrides


def parse_value(text: str):
    """The Python value of an option's text; see :func:`parse_overrides`."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    try:
        value = yaml.load(text, Loader=YamlLoader)
    except yaml.YAMLError:
        return text
    # An empty value stays empty; a date or a mapping with live objects stays text.
    return value if text and not isinstance(value, str) and _is_plain(value) else text


def _is_plain(value) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    return value is None or type(value) in (bool, int, float, str)
