"""Options of a command line as Python values."""

import argparse
import ast
import re

import yaml

from recbole_mm.config.errors import ConfigError
from recbole_mm.tools.yaml_files import load_yaml

PATTERNS = re.compile(r"""\[([^][{}"':#]*\*[^][{}"':#]*)\]""")
"""A list of words with ``*``, which has another meaning in yaml at the start of a word."""


def parse_overrides(arguments) -> dict:
    """``--key=value`` and ``--key value`` as a dict of Python values.

    A value is a Python literal, else a yaml value (``~``, ``true``, ``[text, image]``, ``1e-3``),
    else the string itself; ``5,10`` and ``[*_layers.*, adapters.*]`` are lists. It may contain
    spaces and ``=``.

    Raises:
        ConfigError: an argument is not an option, an option has no value, or it is given more than
            once with different values.
    """
    overrides: dict = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or not key:
            raise ConfigError(f"{argument!r} is not an option: write --key=value")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise ConfigError(f"--{key} has no value: write --{key}=VALUE, e.g. --{key}=True")
            value = rest.pop(0)
        parsed = parse_value(value)
        if key in overrides and overrides[key] != parsed:
            raise ConfigError(
                f"duplicate option --{key}: {overrides[key]!r} and {parsed!r}; keep one"
            )
        overrides[key] = parsed
    return overrides


def parse_flag(option: str, text: str) -> bool:
    """The value of an option that is ``True`` or ``False``.

    Raises:
        ConfigError: the value is neither.
    """
    value = parse_value(text)
    if not isinstance(value, bool):
        raise ConfigError(f"{option}={text}: give True or False")
    return value


def parse_value(text: str):
    """The Python value of an option's text; see :func:`parse_overrides`."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _yaml_value(text)
    return list(value) if isinstance(value, tuple) else value


def _yaml_value(text: str):
    try:
        value = load_yaml(text)
    except yaml.YAMLError:
        patterns = PATTERNS.fullmatch(text.strip())
        return _words(patterns[1]) if patterns else text
    return text if isinstance(value, str) or not text.strip() else value


def _words(text: str) -> list:
    return [parse_value(word.strip()) for word in text.split(",") if word.strip()]


def add_config_files_option(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """Add ``--config_files=FILE``, which may be given several times."""
    parser.add_argument(
        "--config_files",
        action="append",
        default=[],
        required=required,
        metavar="FILE",
        help="a yaml file with further keys, yours or one of this package "
        "(transfer/MMM4Rec_demo.yaml); repeat the option for several files, later ones win",
    )
