"""The errors of a configuration that cannot be run."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recbole_mm.tools.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message names the key, its source and the fix.

    Attributes:
        may_be_in_a_file: whether files are added to the message, since one may contain the value.
    """

    may_be_in_a_file = True


class UnknownKey(ConfigError):
    """A key that nothing reads.

    Args:
        source: source that sets the key.
        key: key as written there.
        near: similar known keys, as shown in messages.
        otherwise: hint if no key is similar.

    Attributes:
        key: see above.
        near: see above.
    """

    def __init__(self, source: str, key: str, near: list[str], otherwise: str = ""):
        self.key, self.near = key, near
        hint = f"did you mean {' or '.join(near)}?" if near else otherwise
        super().__init__(f"{source}: unknown key {key!r}; {hint}")


@contextmanager
def in_no_file() -> Iterator[None]:
    """Mark errors of the block as concerning values that are in no file, e.g. of the command
    line."""
    try:
        yield
    except ConfigError as error:
        error.may_be_in_a_file = False
        raise


@contextmanager
def files_named(files: Mapping[str, Mapping]) -> Iterator[None]:
    """Add the files concerned to an error about values that may come from any of several files.

    Args:
        files: path -> keys that it sets, if known.

    Raises:
        ConfigError: the error of the block; its message names the files that set a key which it
            mentions, or else all files; none if the values are :func:`in_no_file`.
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
