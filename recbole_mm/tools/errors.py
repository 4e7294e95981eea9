"""Failures that a command reports in one line."""

from collections.abc import Mapping
from contextlib import contextmanager


class UserError(ValueError):
    """Input that cannot be used; the message names the file or key, the value and the fix.

    A command ends with exit status 2.
    """


class RunFailed(RuntimeError):
    """A run that cannot continue although nothing of its input is malformed; exit status 1."""


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its type if it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


ALLOCATION_FAILED = "can't allocate memory"
"""torch's words on the CPU, in a RuntimeError."""


def is_lack_of_memory(error: Exception) -> bool:
    """Of Python, or of torch on a GPU or on the CPU; torch is not imported for this."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or ALLOCATION_FAILED in str(error)


@contextmanager
def user_errors(where: str = ""):
    """Turn a ``ValueError`` of RecBole's, or of a model, about data and values into a user's error.

    Args:
        where: put before the message.
    """
    try:
        yield
    except ValueError as error:
        if isinstance(error, UserError) and not where:
            raise
        raise UserError(f"{where}{error}") from error


def refuse_together(key: str, others: Mapping[str, bool]) -> None:
    """Refuse settings that do not work with a key.

    Args:
        key: a key that is set.
        others: settings in words, and whether each is there.

    Raises:
        UserError: one is.
    """
    for setting, is_set in others.items():
        if is_set:
            raise UserError(f"{key} does not work with {setting}. Change one of the two.")
