"""Packages that only some commands need."""

from contextlib import contextmanager

from recbole_mm.tools.errors import UserError

PACKAGE = "recbole_mm"


@contextmanager
def extra_needed(command: str, extra: str):
    """Turn the lack of a package into a message that says how to install it.

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
