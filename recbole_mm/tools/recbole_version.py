"""RecBole, which is installed without its own requirements: missing, or of a version not known here."""

from recbole_mm.tools.errors import UserError

INSTALL = "pip install --no-deps recbole==1.2.1"
"""RecBole 1.2.1 requires ray <= 2.6.3, which has no wheels for Python 3.12 and later; what RecBole's
modules import is a requirement of this package instead."""


class RecBoleError(UserError, ModuleNotFoundError):
    """RecBole cannot be imported, or not in this version."""


def missing_recbole() -> RecBoleError:
    """What an import of RecBole raises where it is not installed."""
    return RecBoleError(f"RecBole is not installed: {INSTALL}")


def refuse_unknown_version(version: str) -> None:
    """Check the version of RecBole.

    Raises:
        RecBoleError: it is not 1.2.
    """
    if not version.startswith("1.2."):
        raise RecBoleError(f"RecBole {version} is installed, 1.2 is needed: {INSTALL}")
