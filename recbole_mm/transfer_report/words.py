"""What pre-training brought, in sentences."""

from statistics import median

from recbole_mm.reporting.statistics import LEVEL, Comparison, Interval
from recbole_mm.transfer_report.convergence import Reached
from recbole_mm.transfer_report.summary import Block, Row
from recbole_mm.transfer_report.variants import SCRATCH

PRE_TRAINED = "unfrozen"
"""The start that a sentence is about."""


def sentence(block: Block, metric: str) -> str:
    """What starting from the pre-trained model changed on a target under a condition."""
    scratch, row = block.row(SCRATCH), block.row(PRE_TRAINED)
    assert scratch is not None and row is not None and row.comparison is not None
    difference = row.comparison.difference
    change = f" ({difference.value / scratch.mean:+.1%}" if scratch.mean else " ("
    change += ", " if scratch.mean else ""
    text = (
        f"On {block.target} ({block.condition.text}), starting from the pre-trained model changes "
        f"{metric} by {difference.value:+.4f}{change}{_interval(difference)}): "
        f"{_verdict(row.comparison)}."
    )
    if not row.comparison.includes_seeds:
        text += " This is about these trained models: other seeds may differ."
    return f"{text} {_pace(row, scratch)}".strip()


def _interval(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "no interval"
    return f"{LEVEL:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}"


def _verdict(comparison: Comparison) -> str:
    low, high = comparison.difference.low, comparison.difference.high
    if low is None or high is None:
        return "too few users, or all alike, to tell it from scratch"
    if low <= 0 <= high:
        return "not told apart from scratch"
    if comparison.corrected_p >= 1 - LEVEL:
        return (
            f"not told apart from scratch once the number of starts is corrected for "
            f"(p {comparison.corrected_p:.2g})"
        )
    return "better than scratch" if low > 0 else "worse than scratch, pre-training hurts here"


def _pace(row: Row, scratch: Row) -> str:
    """When it reaches scratch's best validation score, beside scratch itself."""
    own, base = row.reached[-1], scratch.reached[-1]
    if not own.steps:
        return ""
    seeds = len(own.steps)
    if not own.times:
        return f"It never reaches scratch's best validation score ({seeds} of {seeds} seeds)."
    return (
        f"It reaches scratch's best validation score with {own.times} of {seeds} seeds, after "
        f"{_median(own)} optimizer steps (median of these; scratch: {_median(base)})."
    )


def _median(times: Reached) -> str:
    known = [step for step in times.steps if step is not None]
    return f"{median(known):,.0f}" if known else "-"
