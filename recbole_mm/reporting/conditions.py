"""How the numbers of a report were computed, in sentences."""

from recbole_mm.tools.counts import counted, percent

TIES = {
    "file": "in the order of the file",
    "item": "in the order of the items' tokens",
    "random": "in a random order, the same for every run",
}
"""``tie_order`` in words."""

LEAVE_ONE_OUT = (
    "Leave-one-out: each user's last event is for test, the one before it for validation."
)


def ranking_conditions(n_items: int, mask_seen: bool, same_domain: bool = False) -> list[str]:
    """What a target is ranked among.

    Args:
        n_items: number of items of the data set.
        mask_seen: whether items of the history are not candidates at test.
        same_domain: whether only items of the target's domain are candidates.
    """
    candidates = f"all {n_items:,} items"
    if same_domain:
        candidates = f"the items of its domain (of {n_items:,} in total)"
    history = "are candidates too (not masked)"
    if mask_seen:
        history = "are not candidates at test (in validation they are)"
    return [
        f"Each target is ranked among {candidates}; items in the user's history {history}.",
        "Of the other items with the same score, half count as ranked higher.",
    ]


def tie_conditions(tie_order: str, tied_targets: int, test_targets: int) -> list[str]:
    """What depends on the order of events at the same time; empty if nothing does."""
    if not tied_targets:
        return []
    depend = counted(tied_targets, "test target depends", "test targets depend")
    sentence = (
        f"Events of a user at the same time are {TIES[tie_order]} (tie_order: {tie_order}); {depend} "
        f"on that order ({percent(tied_targets / test_targets, 2)} of them)."
    )
    return [sentence]
