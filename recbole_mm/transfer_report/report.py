"""A transfer report: one table and one figure."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_mm.run.result import Result
from recbole_mm.tools.files import whole_or_not, write_text
from recbole_mm.transfer_report.variants import NOT_TRAINED, STARTS, Variant, without_id_setting

NEAR_BEST = 0.95
COLUMNS = (
    "target", "start", "metric", "seeds", "test", "valid", "epochs to best", "s to best",
    f"epochs to {NEAR_BEST:.0%}", f"s to {NEAR_BEST:.0%}",
)  # fmt: skip
STYLES = dict(zip(STARTS, ("-", "--", "-.", ":", (0, (1, 4))), strict=True))


def write_report(variants: list[Variant], out: Path) -> list[Path]:
    """Write ``transfer.md`` and ``convergence.png`` into the folder ``out``.

    Returns:
        their paths.
    """
    table, figure = out / "transfer.md", out / "convergence.png"
    write_text(table, report_table(variants) + "\n")
    with whole_or_not(figure) as temporary:
        convergence_figure(variants).savefig(temporary, dpi=120, format="png")
    return [table, figure]


def report_table(variants: list[Variant]) -> str:
    """Markdown: means and standard deviations over the seeds."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *map(_row, variants)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def time_to(result: Result, share: float) -> tuple[int, float] | None:
    """Epochs and seconds of training until ``share`` of the best validation score was reached;
    ``None`` without validation during training."""
    best = max((entry["valid_score"] for entry in result.history), default=0.0)
    for entry in result.history:
        if entry["valid_score"] >= share * best:
            return entry["epoch"] + 1, entry["seconds"]
    return None


def _row(variant: Variant) -> tuple[str, ...]:
    target, start, results = variant
    metric = results[0].valid_metric
    times = []  # epochs and seconds to the best score and to nearly the best
    for share in (1.0, NEAR_BEST):
        reached = [time_to(result, share) or (None, None) for result in results]
        times += [_spread(column, ".1f") for column in zip(*reached, strict=True)]
    return (
        target,
        start,
        metric,
        str(len(results)),
        _spread([(result.test_result or {}).get(metric) for result in results]),
        _spread([result.best_valid_score for result in results]),
        *times,
    )


def _spread(values: Sequence[float | None], form: str = ".4f") -> str:
    """Mean and standard deviation; ``-`` if a value is unknown."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    text = format(mean(known), form)
    return f"{text} ± {stdev(known):{form}}" if len(known) > 1 else text


def convergence_figure(variants: list[Variant]) -> Figure:
    """Validation score by epoch: one panel per target, one line per seed; a level line where
    nothing is trained."""
    trained = set(STARTS) - set(NOT_TRAINED)
    targets = list(dict.fromkeys(v.target for v in variants if v.start in trained))
    figure = Figure(figsize=(5.5 * len(targets), 4), layout="constrained")
    panels = figure.subplots(1, len(targets), squeeze=False)[0]
    for axes, target in zip(panels, targets, strict=True):
        names = (target, without_id_setting(target))
        shown = [v for v in variants if v.start in STARTS and v.target in names]
        for number, variant in enumerate(shown):
            _draw_lines(axes, variant, f"C{number}")
        axes.set_title(target, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {shown[0].results[0].valid_metric}")
        axes.legend(frameon=False, fontsize=8)
    return figure


def _draw_lines(axes, variant: Variant, color: str) -> None:
    line = {"color": color, "linestyle": STYLES[variant.start], "linewidth": 1}
    for repeat, result in enumerate(variant.results):
        label = variant.start if repeat == 0 else None
        if variant.start not in NOT_TRAINED:
            epochs = [entry["epoch"] + 1 for entry in result.history]
            scores = [entry["valid_score"] for entry in result.history]
            axes.plot(epochs, scores, label=label, **line)
        elif result.best_valid_score is not None:  # the split has validation targets
            axes.axhline(result.best_valid_score, label=label, **line)
