"""The error that says a configuration cannot be run."""

from recbole_mm.tools.errors import UserError


class ConfigError(UserError):
    """A configuration that cannot be run; the message names the key, its source and the fix."""
