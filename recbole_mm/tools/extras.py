"""Packages that only some commands need."""

from collections.abc import Iterable
from contextlib import contextmanager
from importlib.util import find_spec

from recbole_mm.tools.errors import UserError

PACKAGE = "recbole_mm"


@contextmanager
def extra_needed(command: str, extra: str):
    """Turn a missing package into a message with the command that installs it.

    Args:
        command: what needs the package.
        extra: of this package; installs it.

    Raises:
        UserError: an import within the block found no such package.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or PACKAGE).partition(".")[0] == PACKAGE:
            raise
        raise UserError(
            f"{command} needs {error.name}: pip install '{PACKAGE}[{extra}]'"
        ) from error


def require_installed(command: str, extra: str, packages: Iterable[str]) -> None:
    """Look for packages before anything heavy is done; none is imported.

    Args:
        command: what needs them.
        extra: installs them.
        packages: names by which they are imported.

    Raises:
        UserError: one is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"{command} needs {package}: pip install '{PACKAGE}[{extra}]'")
