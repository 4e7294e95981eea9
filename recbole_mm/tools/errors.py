"""Failures that a command reports in one line."""

from collections.abc import Mapping
from contextlib import contextmanager


class UserError(ValueError):
    """Input that cannot be used; the message names the file or key, the value and the fix.

    A command ends with exit status 2.
    """


class RunFailed(RuntimeError):
    """A run that cannot continue although its input is well-formed; exit status 1."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type if the message is empty."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


ALLOCATION_FAILED = "can't allocate memory"
"""Part of torch's message on the CPU, in a RuntimeError."""


def is_lack_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a GPU or the CPU, ran out of memory; does not import torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"MemoryError", "OutOfMemoryError"}) or ALLOCATION_FAILED in str(error)


@contextmanager
def user_errors(where: str = ""):
    """Turn a ``ValueError`` of RecBole or a model, about data and values, into a
    :class:`UserError`.

    Args:
        where: prefix of the message, unless it has it.
    """
    try:
        yield
    except ValueError as error:
        if isinstance(error, UserError) and str(error).startswith(where):
            raise
        raise UserError(f"{where}{error}") from error


def refuse_together(key: str, others: Mapping[str, bool]) -> None:
    """Refuse settings that do not work with a key.

    Args:
        key: key that is set.
        others: descriptions of settings, and whether each is set.

    Raises:
        UserError: one of them is set.
    """
    for setting, is_set in others.items():
        if is_set:
            raise UserError(f"{key} does not work with {setting}. Change one of the two.")
