"""Command lines that a user copies into a shell."""

import shlex
import sys
from collections.abc import Iterable
from subprocess import list2cmdline


def shell_line(words: Iterable[str]) -> str:
    """One line that the shell of this system splits into these words."""
    join = {"win32": list2cmdline}.get(sys.platform, shlex.join)
    return join(list(words))
