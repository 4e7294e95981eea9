"""Cards (``NAME.card.json``): what a data set was made from and how."""

import reprlib
from pathlib import Path
from typing import Any

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_files import fits, read_json

Counts = dict[str, int]
KINDS: dict[str, Any] = {
    "features": dict[str, dict[str, Any]],
    "items": int,
    "layout": int,
    "meta": Counts,
    "pictures": str,
    "pictures_failed": Counts,
    "rows_left_out": Counts,
    "terms": str,
}
"""Types of the entries that are read again."""


class CardError(UserError):
    """A damaged card."""


def read_card(path) -> dict:
    """The facts of a card; ``{}`` if it does not exist.

    Raises:
        CardError: the card is damaged.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    fix = "Delete it, and create the data set or its features again"
    try:
        card = read_json(path, CardError)
    except CardError as error:
        raise CardError(f"{error}. {fix}.") from None
    if not isinstance(card, dict):
        raise CardError(f"{path}: not the card of a data set. {fix}.")
    for name, kind in KINDS.items():
        if name in card and not fits(card[name], kind):
            expected = getattr(kind, "__name__", kind) if isinstance(kind, type) else kind
            raise CardError(
                f"{path}: damaged: {name} is {reprlib.repr(card[name])}, expected {expected}. {fix}."
            )
    return card
