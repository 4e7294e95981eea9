"""Tables that cannot be written."""

from contextlib import contextmanager

from polars.exceptions import PolarsError

from recbole_mm.tools.errors import RunFailed, first_line
from recbole_mm.tools.files import system_error_in


@contextmanager
def disk_errors(path, hint: str = ""):
    """Turn a full disk, and other errors of a disk, into a failed run.

    Args:
        path: path of the file that is written.
        hint: text appended to the message.

    Raises:
        RunFailed: the file cannot be written.
    """
    try:
        yield
    except (OSError, PolarsError) as error:
        reason = first_line(error)
        if isinstance(error, PolarsError) and system_error_in(reason) is None:
            raise  # about the table that is read
        raise RunFailed(f"{path}: cannot be written: {reason}. {hint}".rstrip(" .")) from error
