r"""Figures of a report; dashes and hatches distinguish entries, not color alone."""

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_mm.reporting.statistics import Interval
from recbole_mm.tools.files import whole_or_not

DASHES = ["-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3))]
HATCHES = ["", "///", "...", "xxx", "\\\\\\", "++", "oo", "--"]
GRAYS = ["0.25", "0.85", "0.6", "0.95", "0.45", "0.75", "0.9", "0.5"]
METADATA = ("Creator", "Date", "Format", "Type")
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]

CHARACTERS_PER_LINE = 115
"""Characters per line of the legend of a figure."""
HANDLE_LENGTH = 9
"""Length of the line or box next to a label, with the space around it, in characters."""

Curve = list[tuple[int, float]]
"""Epochs, counted from 1 (0: before training), or steps, and a score after each."""


def learning_curves(
    curves: dict[str, list[Curve]],
    metric: str,
    unit: str = "epoch",
    levels: dict[str, float] | None = None,
) -> Figure:
    """Validation score by epoch: one line style per label, one line per seed.

    Args:
        curves: label -> one curve per seed.
        metric: validation metric.
        unit: unit of the first number of a point.
        levels: scores of entries without training, drawn as thin horizontal lines.
    """
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (label, seeds) in enumerate(curves.items()):
        for repeat, curve in enumerate(seeds):
            axes.plot(
                [epoch for epoch, _ in curve],
                [score for _, score in curve],
                color=str(0.15 * (number % 4)),
                linestyle=DASHES[number % len(DASHES)],
                marker=MARKERS[number % len(MARKERS)],
                markevery=max(1, len(curve) // 8),
                markersize=4,
                linewidth=1,
                label=as_plain_text(label) if repeat == 0 else None,
            )
    draw_levels(axes, levels or {})
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(unit)
    axes.set_ylabel(f"validation {metric}")
    add_legend(figure, axes)
    return figure


def draw_levels(axes, levels: dict[str, float]) -> None:
    """Draw thin horizontal lines, by label."""
    for number, (label, value) in enumerate(levels.items(), 1):
        axes.axhline(
            value,
            color="0.5",
            linestyle=DASHES[number % len(DASHES)],
            linewidth=0.7,
            label=as_plain_text(label),
        )


def as_plain_text(label: str) -> str:
    """A label that matplotlib shows literally: no formula between ``$``, not hidden by a leading
    ``_``."""
    text = label.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def error_bars(spans: list[Interval]) -> list[list[float]]:
    """How far intervals reach below and above their values, 0 where there is none."""
    return [
        [0.0 if span.low is None else max(0.0, span.value - span.low) for span in spans],
        [0.0 if span.high is None else max(0.0, span.high - span.value) for span in spans],
    ]


def grouped_bars(groups: dict[str, dict[str, Interval]], labels: list[str], metric: str) -> Figure:
    """Bars with intervals.

    Args:
        groups: name of a group -> label -> value; a label that is missing in a group has no bar.
        labels: labels in the order of the bars.
        metric: label of the axis.
    """
    figure = Figure(figsize=(max(8, 1.9 * len(groups)), 3.4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(labels)
    for number, label in enumerate(labels):
        places = [i for i, values in enumerate(groups.values()) if label in values]
        spans = [values[label] for values in groups.values() if label in values]
        heights = [span.value for span in spans]
        axes.bar(
            [place + (number - (len(labels) - 1) / 2) * width for place in places],
            heights,
            width,
            yerr=error_bars(spans) if spans else None,
            label=as_plain_text(label),
            color=GRAYS[number % len(GRAYS)],
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="black",
            linewidth=0.6,
            error_kw={"elinewidth": 1, "capsize": 2},
        )
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_xticks(range(len(groups)), list(map(as_plain_text, groups)), fontsize=8)
    axes.set_ylabel(metric)
    add_legend(figure, axes)
    return figure


def add_legend(figure: Figure, axes) -> None:
    """Put the legend below the axes, since labels may be long: in one line if it fits, else in as
    many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    widths = [len(label) + HANDLE_LENGTH for label in labels]
    columns = len(labels)
    if sum(widths) > CHARACTERS_PER_LINE:
        columns = max(1, CHARACTERS_PER_LINE // max(widths))
    rows = -(-len(labels) // max(columns, 1))
    figure.set_figheight(figure.get_figheight() + 0.18 * rows)
    figure.legend(
        handles, labels, frameon=False, fontsize=8, loc="outside lower center", ncols=columns
    )


def svg_text(figure: Figure) -> str:
    """The figure as an element of a page; its text stays text."""
    buffer = io.StringIO()
    _save(figure, buffer, "svg", dict.fromkeys(METADATA))
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def write_figure(figure: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.pdf``; the same figure gives the same bytes.

    Returns:
        the paths.
    """
    paths = []
    for form, metadata in (("svg", METADATA), ("pdf", ("Creator", "Producer", "CreationDate"))):
        path = stem.with_name(f"{stem.name}.{form}")
        with whole_or_not(path) as temporary:
            _save(figure, temporary, form, dict.fromkeys(metadata))
        paths.append(path)
    return paths


def _save(figure: Figure, target, form: str, metadata: dict) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "recbole_mm"}):
        figure.savefig(target, format=form, metadata=metadata)
