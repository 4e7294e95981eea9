"""Packages that only some commands need, and incompatible packages."""

import traceback
from collections.abc import Iterable
from contextlib import contextmanager
from importlib.util import find_spec

from recbole_mm.tools.errors import UserError

PACKAGE = "recbole_mm"


@contextmanager
def extra_needed(command: str, extra: str):
    """Turn a missing package into a message with the command that installs it.

    Args:
        command: command that needs the package.
        extra: extra of this package that installs it.

    Raises:
        UserError: a package imported in the block is missing.
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
    """Check that packages are installed before anything expensive is done; none is imported.

    Args:
        command: command that needs them.
        extra: extra of this package that installs them.
        packages: import names of the packages.

    Raises:
        UserError: a package is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise UserError(f"{command} needs {package}: pip install '{PACKAGE}[{extra}]'")


def unfit_package(error: ImportError) -> str | None:
    """The third-party package that cannot be imported, ``None`` if it is this one.

    Args:
        error: error as raised; packages also raise it themselves if they find an incompatible
            version of another package.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    importer = frames[-1].f_globals.get("__name__", "") if frames else ""
    package = (error.name or importer).partition(".")[0]
    return package if package and package != PACKAGE else None
