"""Command lines: lines that a user copies into a shell, and arguments that a user types."""

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from subprocess import list2cmdline

from recbole_mm.tools.names import nearest


def shell_line(words: Iterable[str]) -> str:
    """One line that the shell of this system splits into these words."""
    join = {"win32": list2cmdline}.get(sys.platform, shlex.join)
    return join(list(words))


def path_argument(text: str) -> Path:
    """Parse a path of the command line, as ``type`` of an argument.

    Raises:
        argparse.ArgumentTypeError: the path is empty, e.g. because of an unset shell variable;
            ``Path("")`` would be the current folder.
    """
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; is a variable of your shell not set?")
    return Path(text)


def with_dashes(arguments: Iterable[str]) -> list[str]:
    """Replace ``--filter_seen`` by ``--filter-seen`` in arguments, for commands whose options have
    dashes; keys of a training have underscores."""

    def dashed(argument: str) -> str:
        name, equals, value = argument.partition("=")
        return f"{name.replace('_', '-')}{equals}{value}" if name.startswith("--") else argument

    return list(map(dashed, arguments))


class CommandParser(argparse.ArgumentParser):
    """A parser of all options of a command with one-line errors that suggest similar options.

    Args:
        settings: arguments of :class:`argparse.ArgumentParser`.
    """

    def __init__(self, **settings):
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings
        )

    def parse_args(self, args=None, namespace=None):
        found, rest = self.parse_known_args(args, namespace)
        if rest:
            name = rest[0].partition("=")[0]
            near = near_options(self, name.lstrip("-")) if name.startswith("-") else []
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            self.error(f"unknown {'option' if name.startswith('-') else 'argument'} {name}{hint}")
        return found

    def error(self, message: str):
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: error: {message}{end} All options: {self.prog} --help\n")


def near_options(parser: argparse.ArgumentParser, name: str) -> list[str]:
    """The options of a parser that are similar to an unknown option.

    Args:
        parser: parser of a command.
        name: name of the unknown option, without its dashes.
    """
    known = {
        option.lstrip("-").replace("-", "_"): option
        for option in parser._option_string_actions
        if option.startswith("--")
    }
    return [known[near] for near in nearest(name.replace("-", "_"), known, n=2)]
