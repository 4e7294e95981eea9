"""The effect of pre-training, in sentences."""

from statistics import median

from recbole_mm.reporting.statistics import LEVEL, Comparison, Interval
from recbole_mm.run.result import START
from recbole_mm.tools.counts import counted
from recbole_mm.transfer_report.summary import Block, Row
from recbole_mm.transfer_report.variants import SCRATCH, UNFROZEN


def sentence(block: Block, metric: str) -> str:
    """The effect of starting from the pre-trained model on a target under a condition."""
    scratch, row = block.row(SCRATCH), block.row(UNFROZEN)
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
        text += " This holds for these trained models: other seeds may differ."
    parts = [text, *(_kept(each) for each in (scratch, row)), _pace(row, scratch)]
    return " ".join(part for part in parts if part)


def _kept(row: Row) -> str:
    """How many seeds keep their initial weights because no epoch was better."""
    kept, seeds = row.best_epochs.count(START), len(row.best_epochs)
    if not kept:
        return ""
    what = "no epoch was better than the unchanged pre-trained model, which was kept"
    if row.start == SCRATCH:
        what = "no epoch from scratch was better than random weights, which were kept"
    return (
        f"With {kept} of {seeds} seeds {what}: more steps or another learning rate may change this."
    )


def _interval(difference: Interval) -> str:
    if difference.low is None or difference.high is None:
        return "no interval"
    return f"{LEVEL:.0%} interval {difference.low:+.4f} to {difference.high:+.4f}"


def _verdict(comparison: Comparison) -> str:
    low, high = comparison.difference.low, comparison.difference.high
    if low is None or high is None:
        return "too few users, or no variation among them, to compare it with scratch"
    if low <= 0 <= high or comparison.p >= 1 - LEVEL:
        return "not significantly different from scratch"
    if comparison.corrected_p >= 1 - LEVEL:
        return (
            f"not significantly different from scratch after correction for the number of starts "
            f"(p {comparison.corrected_p:.2g})"
        )
    return "better than scratch" if low > 0 else "worse than scratch, pre-training hurts here"


def _pace(row: Row, scratch: Row) -> str:
    """When it reaches scratch's best validation score, compared with scratch itself."""
    own, base = row.reached[-1], scratch.reached[-1]
    if not own.steps:
        return ""
    seeds = len(own.steps)
    if not own.times:
        return "It does not reach scratch's best validation score with any seed."
    both = [pair for pair in zip(own.steps, base.steps, strict=True) if pair[0] is not None]
    medians = [
        median(step for step in steps if step is not None) for steps in zip(*both, strict=True)
    ]
    return (
        f"It reaches scratch's best validation score with {own.times} of "
        f"{counted(seeds, 'seed', 'seeds')}, after {_steps(medians[0])} (median "
        f"of these; scratch with the same seeds: "
        f"{medians[1]:,.0f})."
    )


def _steps(number: float) -> str:
    return counted(round(number), "optimizer step", "optimizer steps")
