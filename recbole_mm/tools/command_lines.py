"""Command lines that a user copies into a shell."""

import shlex
import sys
from collections.abc import Iterable


def shell_line(words: Iterable[str]) -> str:
    """One line that the shell of this system splits into these words."""
    if sys.platform != "win32":
        return shlex.join(words)
    from subprocess import list2cmdline

    return list2cmdline(list(words))
