"""Packages that only some commands need."""

from contextlib import contextmanager

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
