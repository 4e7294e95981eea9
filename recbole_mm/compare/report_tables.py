"""The tables of a report, as text cells."""

import math

from recbole_mm.compare.summary import Summary
from recbole_mm.reporting.ranks import LIST_METRICS
from recbole_mm.reporting.tables import (
    Table,
    aligned,
    best_two,
    difference_cell,
    interval_cell,
    mean_cell,
    p_value_cell,
    value_cell,
)

COSTS = {"epochs": ".1f", "seconds": ".0f", "n_parameters": ",.0f"}
LIST_METRIC_PREFIXES = tuple(metric.lower() for metric in LIST_METRICS)


def text_table(summary: Summary) -> str:
    """The differences for the console, with the conditions under which the numbers hold."""
    lines = [summary.background.conditions, *aligned(differences_table(summary))]
    if summary.unfinished_curves:
        lines.append(f"warning: {unfinished_curves_note(summary)}")
    lines += [f"NO RESULT: {f.run.label}, seed {f.run.seed}: {f.reason}" for f in summary.failures]
    return "\n".join(lines)


def metrics_table(summary: Summary) -> Table:
    """Mean and standard deviation over seeds of every metric."""
    names = list(dict.fromkeys(name for row in summary.rows for name in row.means))
    rows = [
        [row.label, str(row.seeds), *(mean_cell(row.means, row.deviations, name) for name in names)]
        for row in summary.rows
    ]
    columns = {
        n: [row.means[name] for row in summary.rows]
        for n, name in enumerate(names, start=2)
        if "@" in name and not name.startswith(LIST_METRIC_PREFIXES)
    }
    return Table(["", "seeds", *(_short(name) for name in names)], rows, best_two(columns))


def other_metrics_table(summary: Summary) -> Table:
    """Like :func:`metrics_table`, with the other treatment of the seen items."""
    names = list(dict.fromkeys(name for row in summary.rows for name in row.other_means))
    rows = [
        [row.label, *(mean_cell(row.other_means, row.other_deviations, name) for name in names)]
        for row in summary.rows
    ]
    columns = {
        n: [row.other_means.get(name, -math.inf) for row in summary.rows]
        for n, name in enumerate(names, 1)
    }
    return Table(["", *names], rows, best_two(columns))


def unfinished_curves_note(summary: Summary) -> str:
    """Which runs might have improved with more epochs; empty if none."""
    if not summary.unfinished_curves:
        return ""
    runs = ", ".join(f"{run.label} (seed {run.seed})" for run in summary.unfinished_curves)
    return (
        f"Best at the last allowed epoch: {runs}. More epochs may change the order of the entries; "
        f"raise --epochs."
    )


def _short(name: str) -> str:
    """RecBole's ``itemcoverage@10`` and ``averagepopularity@10`` without their first word."""
    return name.removeprefix("item").removeprefix("average")


def differences_table(summary: Summary) -> Table:
    """The metric of the tests, its interval over users, and each difference from the baseline."""
    metric, baseline = summary.settings.metric, summary.settings.baseline
    rows = []
    for row in summary.rows:
        cells = [
            row.label,
            mean_cell(row.means, row.deviations, metric),
            interval_cell(row.interval),
        ]
        if row.against_baseline is None:
            rows.append([*cells, "baseline", "", "", ""])
            continue
        difference, p, corrected, _ = row.against_baseline
        base = row.interval.value - difference.value
        share = f"{difference.value / base:+.1%}" if base else "-"
        rows.append(
            [*cells, difference_cell(difference), share, p_value_cell(p), p_value_cell(corrected)]
        )
    compared = [row.against_baseline for row in summary.rows if row.against_baseline is not None]
    models = "" if all(c.includes_seeds for c in compared) else ", these models"
    tests = [f"p{models}", f"p (Holm{models})"]
    head = ["", metric, "interval over users", f"minus {baseline}", "change", *tests]
    return Table(head, rows)


def cost_table(summary: Summary) -> Table:
    """The best epoch of each seed, and the training costs averaged over seeds."""
    rows = [
        [
            row.label,
            ", ".join(summary.best_epochs[row.label]) or "-",
            *(format(row.cost[key], form) if row.cost else "-" for key, form in COSTS.items()),
        ]
        for row in summary.rows
    ]
    return Table(["", "best epoch", "epochs", "seconds", "trainable parameters"], rows)


def slices_table(summary: Summary) -> Table:
    """One row per slice, one column per entry."""
    labels = [row.label for row in summary.rows]
    rows = [
        [
            f"{part.kind}: {part.name}",
            f"{part.users:,}",
            f"{part.targets:,}",
            *(value_cell(part.values.get(label)) for label in labels),
        ]
        for part in summary.slices
    ]
    return Table(["slice", "users", "targets", *labels], rows)


def slice_differences_table(summary: Summary) -> Table:
    """One row per slice, one column per entry except the baseline."""
    baseline = summary.settings.baseline
    labels = [row.label for row in summary.rows if row.label != baseline]
    rows = [
        [
            f"{part.kind}: {part.name}",
            *(difference_cell(part.differences.get(label)) for label in labels),
        ]
        for part in summary.slices
    ]
    return Table([f"minus {baseline}", *labels], rows)


def feature_sets(summary: Summary) -> list[str]:
    """Names of the knock-outs of all models, e.g. ``text only``."""
    return list(dict.fromkeys(name for spans in summary.knockouts.values() for name in spans))


def knockouts_table(summary: Summary) -> Table:
    """One row per entry with item features, one column per knock-out."""
    names = feature_sets(summary)
    rows = [
        [label, *(value_cell(values.get(name)) for name in names)]
        for label, values in summary.knockouts.items()
    ]
    return Table(["", *names], rows)


def dataset_table(summary: Summary) -> Table:
    """Numbers of users, items, interactions and targets."""
    counts = summary.background.dataset.counts
    return Table(["data", ""], [[name, f"{count:,}"] for name, count in counts.items()])


def hashes_table(summary: Summary) -> Table:
    """The files of the data set with their hashes."""
    return Table(["file", "SHA-256"], [list(row) for row in summary.background.hashes.items()])
