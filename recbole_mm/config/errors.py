"""The error that says a configuration cannot be run."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from recbole_mm.tools.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message names the key, its source and the fix."""


@contextmanager
def files_named(files: Mapping[str, Mapping]) -> Iterator[None]:
    """Add to an error about values that may come from any of several files the files concerned.

    Args:
        files: path -> the keys that it sets, as far as they are known.

    Raises:
        ConfigError: as the block does; its message names at least one of the files: those that set a
            key which it mentions, or else all.
    """
    try:
        yield
    except ConfigError as error:
        message = str(error)
        if not files or any(file in message for file in files):
            raise
        words = set(re.findall(r"\w+", message))
        concerned = [file for file, values in files.items() if words & values.keys()]
        raise type(error)(f"{', '.join(concerned or files)}: {message}") from error
