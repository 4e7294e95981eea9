"""Figures of a transfer report."""

from matplotlib.figure import Figure

from recbole_mm.reporting.figures import (
    DASHES,
    MARKERS,
    add_legend,
    draw_levels,
    error_bars,
    learning_curves,
)
from recbole_mm.transfer_report.summary import UNTRAINED_ROWS, Block
from recbole_mm.transfer_report.variants import TRAINED


def curves_figure(block: Block) -> Figure:
    """Validation score by optimizer steps: one line style per start, one line per seed; horizontal
    lines for starts without training."""
    return learning_curves(
        block.curves, block.valid_metric, unit="optimizer steps", levels=block.levels
    )


def sizes_figure(blocks: list[Block], metric: str) -> Figure:
    """A metric by the share of the users that are trained on: trained starts with intervals over
    users, baselines as gray lines, starts without training as horizontal lines.

    Args:
        blocks: blocks of one target, one per size.
        metric: metric of the tests.
    """
    blocks = sorted(blocks, key=lambda block: block.condition.train_users)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    shares = [100 * block.condition.train_users for block in blocks]
    for number, start in enumerate(TRAINED):
        spans = [row.interval for row in (block.row(start) for block in blocks) if row is not None]
        means = [span.value for span in spans]
        axes.errorbar(
            [share * (1 + 0.03 * (number - 1)) for share in shares],
            means,
            yerr=error_bars(spans),
            color=str(0.15 * number),
            linestyle=DASHES[number],
            marker=MARKERS[number],
            markersize=4,
            linewidth=1,
            capsize=2,
            label=start,
        )
    draw_levels(axes, {r.start: r.mean for r in blocks[-1].rows if r.start in UNTRAINED_ROWS})
    for number, start in enumerate(_baselines(blocks)):
        rows = [row for row in (block.row(start) for block in blocks) if row is not None]
        axes.plot(
            shares, [row.mean for row in rows], color="0.6", linestyle=DASHES[number % len(DASHES)],
            linewidth=1, label=start,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(shares, [f"{share:.4g}%" for share in shares])
    axes.set_xticks([], minor=True)
    axes.set_xlabel("users that are trained on")
    axes.set_ylabel(metric)
    add_legend(figure, axes)
    return figure


def _baselines(blocks: list[Block]) -> list[str]:
    starts = [row.start for row in blocks[-1].rows]
    return [start for start in starts if start not in (*TRAINED, *UNTRAINED_ROWS)]
