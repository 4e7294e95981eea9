"""Counts in messages."""

from collections.abc import Mapping


def counted(count: int, singular: str, plural: str) -> str:
    """A count with its words, e.g. ``1 item has`` or ``1,200 items have``."""
    return f"{count:,} {singular if count == 1 else plural}"


def percent(share: float, digits: int = 4) -> str:
    """A share in percent with so many significant digits at most, e.g. ``12.5%`` or ``0.4%``."""
    return f"{100 * share:.{digits}g}%" if share < 1 else f"{100 * share:.0f}%"


def by_reason(counts: Mapping[str, int]) -> str:
    """Counts by reason, e.g. ``no user: 2, no item: 1``."""
    return ", ".join(f"{reason}: {count:,}" for reason, count in counts.items())
