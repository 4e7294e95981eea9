"""A request for recommendations to one user, from plain data that nobody has checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_files import fits
from recbole_mm.tools.names import nearest

MOST_ITEMS = 1000
LONGEST_HISTORY = 1000
IDS = list[str | int] | None
FORMS: dict[str, tuple[Any, str]] = {
    "history": (IDS, f"a list of at most {LONGEST_HISTORY} items"),
    "k": (int, f"a whole number from 1 to {MOST_ITEMS}"),
    "modalities": (list[str] | None, "a list of names"),
    "filter_seen": (bool, "true or false"),
    "times": (
        list[float] | None,
        "a list of unix seconds from 1970 to 2100, one for each item of the history",
    ),
    "items": (IDS, "a list of ids"),
    "exclude": (IDS, "a list of ids"),
    "strict": (bool, "true or false"),
}
"""Type of each attribute, and the same in words."""


@dataclass(frozen=True)
class Query:
    """A request for the best next items of one user.

    Attributes:
        history: ids or titles of items, the latest last unless there are times; ``None`` or empty:
            the most popular items are recommended.
        k: number of items.
        modalities: modalities of the items that count; ``None``: all.
        filter_seen: whether to exclude the items of the history.
        times: times of the events, unix seconds, which put them in order; ``None``: no times.
        items: ids of the items that may be recommended; ``None``: all.
        exclude: ids of items that are not recommended; ``None``: none.
        strict: whether an unknown item of the history is an error; otherwise it is skipped.

    Raises:
        UserError: a value cannot be used.
    """

    history: list[str] | None = None
    k: int = 10
    modalities: list[str] | None = None
    filter_seen: bool = False
    times: list[float] | None = None
    items: list[str] | None = None
    exclude: list[str] | None = None
    strict: bool = False

    def __post_init__(self):
        for name, (kind, form) in FORMS.items():
            if not (fits(getattr(self, name), kind) and self._is_in_range(name)):
                raise UserError(f"{name}: give {form}")
            if kind == IDS and getattr(self, name) is not None:
                object.__setattr__(self, name, list(map(str, getattr(self, name))))
        if self.times is not None and (fault := unpaired(self.history or (), self.times)):
            raise UserError(fault)

    def _is_in_range(self, name: str) -> bool:
        if name == "history":
            return len(self.history or ()) <= LONGEST_HISTORY
        if name == "times":
            return all(0 <= time <= YEAR_2100 for time in self.times or ())
        return name != "k" or 1 <= self.k <= MOST_ITEMS


def unpaired(history: Sequence, times: Sequence) -> str:
    """What is wrong with a history of which each event needs an item and a time; empty if nothing."""
    if len(history) == len(times):
        return ""
    items = counted(len(history), "item", "items")
    return f"{items}, but {counted(len(times), 'time', 'times')}: each event needs both"


def query_of(given: Any) -> Query:
    """The query of an object of JSON.

    Raises:
        UserError: it is not an object, has an unknown key, or a value that cannot be used.
    """
    try:
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise UserError(f"the request has characters that do not exist ({error.reason})") from None
    known = [attribute.name for attribute in fields(Query)]
    if not isinstance(given, dict):
        raise UserError(f"give a JSON object with some of the keys {', '.join(known)}")
    for name in given:
        if name not in known:
            near = nearest(name, known)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UserError(f"unknown key {name[:60]!r}{hint}; there are {', '.join(known)}")
    return Query(**given)
