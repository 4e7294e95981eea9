"""Packages that only some commands need, and packages that do not fit together."""

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


def unfit_package(error: ImportError) -> str | None:
    """The package of others that cannot be imported, ``None`` if it is this one.

    Args:
        error: as it was raised; packages also raise it themselves where they meet a version of another
            package that they do not work with.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    importer = frames[-1].f_globals.get("__name__", "") if frames else ""
    package = (error.name or importer).partition(".")[0]
    return package if package and package != PACKAGE else None
