"""The error that says a configuration cannot be run."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recbole_mm.tools.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message names the key, its source and the fix.

    Attributes:
        may_be_in_a_file: whether files are added to the message, as the value may be in one of them.
    """

    may_be_in_a_file = True


class UnknownKey(ConfigError):
    """A key that nothing reads.

    Args:
        source: where it is set.
        key: as it is written there.
        near: what may be meant, in the form in which messages show it.
        otherwise: the hint where nothing is near.

    Attributes:
        key: as given.
        near: as given.
    """

    def __init__(self, source: str, key: str, near: list[str], otherwise: str = ""):
        self.key, self.near = key, near
        hint = f"did you mean {' or '.join(near)}?" if near else otherwise
        super().__init__(f"{source}: unknown key {key!r}; {hint}")


@contextmanager
def in_no_file() -> Iterator[None]:
    """Errors of the block are about values that are in no file, as those of the command line."""
    try:
        yield
    except ConfigError as error:
        error.may_be_in_a_file = False
        raise


@contextmanager
def files_named(files: Mapping[str, Mapping]) -> Iterator[None]:
    """Add to an error about values that may come from any of several files the files concerned.

    Args:
        files: path -> the keys that it sets, as far as they are known.

    Raises:
        ConfigError: as the block does; its message names at least one of the files: those that set a
            key which it mentions, or else all; none, where the values are :func:`in_no_file`.
    """
    try:
        yield
    except ConfigError as error:
        message = str(error)
        if not (files and error.may_be_in_a_file) or any(file in message for file in files):
            raise
        words = set(re.findall(r"\w+", message))
        concerned = [file for file, values in files.items() if words & values.keys()]
        error.args = (f"{', '.join(concerned or files)}: {message}",)
        raise
