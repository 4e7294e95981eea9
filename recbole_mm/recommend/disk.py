"""Tables that cannot be written."""

from contextlib import contextmanager

from polars.exceptions import PolarsError

from recbole_mm.tools.errors import RunFailed, first_line


@contextmanager
def disk_errors(path, hint: str = ""):
    """Turn a full disk, and what else a disk may refuse, into the end of a run.

    Args:
        path: what is written.
        hint: put behind the message.

    Raises:
        RunFailed: the file cannot be written.
    """
    try:
        yield
    except (OSError, PolarsError) as error:
        reason = first_line(error)
        if isinstance(error, PolarsError) and "os error" not in reason:
            raise  # of the table that is read
        raise RunFailed(f"{path}: cannot be written: {reason}. {hint}".rstrip(" .")) from error
