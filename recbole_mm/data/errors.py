"""Errors about data sets."""

from recbole_mm.tools.errors import UserError


class DatasetError(UserError):
    """Files of a data set that cannot be used as they are."""
