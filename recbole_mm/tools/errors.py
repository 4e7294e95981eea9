"""Failures that a command reports in one line."""


class UserError(ValueError):
    """Input that cannot be used; the message names the file or key, the value and the fix.

    A command ends with exit status 2.
    """


class RunFailed(RuntimeError):
    """A run that cannot continue although nothing of its input is malformed; exit status 1."""
