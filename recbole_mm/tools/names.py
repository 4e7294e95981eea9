"""Names that a user may have meant."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], n: int = 1, cutoff: float = 0.7) -> list[str]:
    """At most ``n`` known names that are similar to this one, ignoring case."""
    by_lower = {other.lower(): other for other in known}
    return [by_lower[x] for x in difflib.get_close_matches(name.lower(), by_lower, n, cutoff)]
