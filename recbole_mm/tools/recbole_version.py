"""Errors about RecBole, which is installed without its own requirements: missing or not
supported."""

from recbole_mm.tools.errors import UserError

INSTALL = "pip install --no-deps recbole==1.2.1"
"""RecBole 1.2.1 requires ray <= 2.6.3, which has no wheels for Python 3.12 and later; what RecBole's
modules import is a requirement of this package instead."""


class RecBoleError(UserError, ModuleNotFoundError):
    """RecBole is missing or its version is not supported."""


def missing_recbole() -> RecBoleError:
    """The error of an import of RecBole if it is not installed."""
    return RecBoleError(f"RecBole is not installed: {INSTALL}")


def refuse_unknown_version(version: str) -> None:
    """Check the version of RecBole.

    Raises:
        RecBoleError: the version is not 1.2.
    """
    if not version.startswith("1.2."):
        raise RecBoleError(f"RecBole {version} is installed, 1.2 is needed: {INSTALL}")
