"""The tables of a report, as text cells."""

import json
from typing import NamedTuple

from recbole_mm.compare.ranks import LIST_METRICS
from recbole_mm.compare.statistics import Interval
from recbole_mm.compare.summary import Summary
from recbole_mm.config.keys import hyper_parameters

COSTS = {"epochs": ".1f", "seconds": ".0f", "n_parameters": ",.0f"}
NBSP = "\N{NO-BREAK SPACE}"
LIST_METRIC_PREFIXES = tuple(metric.lower() for metric in LIST_METRICS)


BEST, SECOND = "best", "second"


class Table(NamedTuple):
    """Text cells.

    Attributes:
        head: of the columns.
        rows: below it.
        marks: the best and the second best cells, by row and column.
    """

    head: list[str]
    rows: list[list[str]]
    marks: dict[tuple[int, int], str] = {}  # noqa: RUF012  never changed


def best_two(columns: dict[int, list[float]]) -> dict[tuple[int, int], str]:
    """Marks of the largest and the second largest values of columns; equal ones, to four decimals,
    have the same mark, and where all are equal none has one.

    Args:
        columns: values of all rows, by column.
    """
    marks: dict[tuple[int, int], str] = {}
    for column, values in columns.items():
        shown = [round(value, 4) for value in values]
        ranked = sorted(set(shown), reverse=True)
        if len(ranked) < 2:
            continue
        names = {ranked[0]: BEST, ranked[1]: SECOND}
        marks |= {(row, column): names[v] for row, v in enumerate(shown) if v in names}
    return marks


def text_table(summary: Summary) -> str:
    """The differences for the console, with the conditions under which the numbers hold."""
    table = differences_table(summary)
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = [summary.background.conditions]
    for row in (table.head, *table.rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    if summary.unfinished_curves:
        lines.append(f"warning: {unfinished_curves_note(summary)}")
    lines += [f"NO RESULT: {f.run.label}, seed {f.run.seed}: {f.reason}" for f in summary.failures]
    return "\n".join(lines)


def metrics_table(summary: Summary) -> Table:
    """Mean and standard deviation over seeds of every metric."""
    names = list(dict.fromkeys(name for row in summary.rows for name in row.means))
    rows = [
        [row.label, str(row.seeds), *(_mean(row.means, row.deviations, name) for name in names)]
        for row in summary.rows
    ]
    columns = {
        n: [row.means[name] for row in summary.rows]
        for n, name in enumerate(names, start=2)
        if "@" in name and not name.startswith(LIST_METRIC_PREFIXES)
    }
    return Table(["", "seeds", *(_short(name) for name in names)], rows, best_two(columns))


def other_metrics_table(summary: Summary) -> Table:
    """As :func:`metrics_table`, with the other treatment of the seen items."""
    names = list(summary.rows[0].other_means)
    rows = [
        [row.label, *(_mean(row.other_means, row.other_deviations, name) for name in names)]
        for row in summary.rows
    ]
    columns = {n: [r.other_means[name] for r in summary.rows] for n, name in enumerate(names, 1)}
    return Table(["", *names], rows, best_two(columns))


def unfinished_curves_note(summary: Summary) -> str:
    """Which runs might have become better with more epochs; empty if none."""
    if not summary.unfinished_curves:
        return ""
    runs = ", ".join(f"{run.label} (seed {run.seed})" for run in summary.unfinished_curves)
    return (
        f"Best at the last epoch that they were allowed: {runs}. More epochs may change the order "
        f"of the entries; raise --epochs."
    )


def _short(name: str) -> str:
    """RecBole's ``itemcoverage@10`` and ``averagepopularity@10`` without their first word."""
    return name.removeprefix("item").removeprefix("average")


def differences_table(summary: Summary) -> Table:
    """The metric of the tests, its interval over users, and each difference from the baseline."""
    metric, baseline = summary.settings.metric, summary.settings.baseline
    rows = []
    for row in summary.rows:
        cells = [row.label, _mean(row.means, row.deviations, metric), _span(row.interval)]
        if row.against_baseline is None:
            rows.append([*cells, "baseline", "", "", ""])
            continue
        difference, p, corrected, _ = row.against_baseline
        base = row.interval.value - difference.value
        share = f"{difference.value / base:+.1%}" if base else "-"
        rows.append([*cells, _difference(difference), share, _p_value(p), _p_value(corrected)])
    compared = [row.against_baseline for row in summary.rows if row.against_baseline is not None]
    models = "" if all(c.includes_seeds for c in compared) else ", these models"
    tests = [f"p{models}", f"p (Holm{models})"]
    head = ["", metric, "interval over users", f"minus {baseline}", "change", *tests]
    return Table(head, rows)


def cost_table(summary: Summary) -> Table:
    """The best epoch of each seed, and means over seeds of what training cost."""
    rows = [
        [
            row.label,
            ", ".join(str(epoch) for epoch in summary.best_epochs[row.label]) or "-",
            *(format(row.cost[key], form) if row.cost else "-" for key, form in COSTS.items()),
        ]
        for row in summary.rows
    ]
    return Table(["", "best epoch", "epochs", "seconds", "trainable parameters"], rows)


def settings_table(summary: Summary) -> Table:
    """One row per hyper-parameter that an entry reads, one column per entry."""
    configs = {label: config for label, config in summary.configs.items() if config}
    read = {label: hyper_parameters(config["model"]) for label, config in configs.items()}
    keys = dict.fromkeys(key for label in configs for key in read[label] if key in configs[label])
    rows = [
        [
            key,
            *(
                _setting(configs[label].get(key)) if key in read[label] else "-"
                for label in configs
            ),
        ]
        for key in keys
    ]
    return Table(["", *configs], rows)


def _setting(value) -> str:
    return "~" if value is None else json.dumps(value) if not isinstance(value, str) else value


def slices_table(summary: Summary) -> Table:
    """One row per slice, one column per entry."""
    labels = [row.label for row in summary.rows]
    rows = [
        [
            f"{part.kind}: {part.name}",
            f"{part.users:,}",
            f"{part.targets:,}",
            *(_span_of(part.values.get(label)) for label in labels),
        ]
        for part in summary.slices
    ]
    return Table(["slice", "users", "targets", *labels], rows)


def slice_differences_table(summary: Summary) -> Table:
    """One row per slice, one column per entry but the baseline."""
    baseline = summary.settings.baseline
    labels = [row.label for row in summary.rows if row.label != baseline]
    rows = [
        [
            f"{part.kind}: {part.name}",
            *(_difference(part.differences.get(label)) for label in labels),
        ]
        for part in summary.slices
    ]
    return Table([f"minus {baseline}", *labels], rows)


def feature_sets(summary: Summary) -> list[str]:
    """Names of the sets of features that models were scored with again, e.g. ``text only``."""
    return list(dict.fromkeys(name for spans in summary.knockouts.values() for name in spans))


def knockouts_table(summary: Summary) -> Table:
    """One row per entry with item features, one column per set of features."""
    names = feature_sets(summary)
    rows = [
        [label, *(_span_of(values.get(name)) for name in names)]
        for label, values in summary.knockouts.items()
    ]
    return Table(["", *names], rows)


def dataset_table(summary: Summary) -> Table:
    """How many users, items, interactions and targets."""
    counts = summary.background.dataset.counts
    return Table(["data", ""], [[name, f"{count:,}"] for name, count in counts.items()])


def hashes_table(summary: Summary) -> Table:
    """The files of the data set."""
    return Table(["file", "SHA-256"], [list(row) for row in summary.background.hashes.items()])


def environment_table(summary: Summary) -> Table:
    """Versions and machine, one column per environment in which runs were made."""
    environments = [environment for environment, _ in summary.environments]
    heads = [", ".join(labels) for _, labels in summary.environments]
    rows = [[name, *(e.get(name, "-") for e in environments)] for name in environments[0]]
    return Table(["environment", *(heads if len(heads) > 1 else [""])], rows)


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 5e-5 else f"{p:.4f}"


def _mean(means: dict[str, float], deviations: dict[str, float | None], name: str) -> str:
    if name not in means:
        return "-"
    mean, deviation = means[name], deviations[name]
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ±{NBSP}{deviation:.4f}"


def _span(interval: Interval) -> str:
    return "-" if interval.low is None else f"[{interval.low:.4f},{NBSP}{interval.high:.4f}]"


def _span_of(interval: Interval | None) -> str:
    return "-" if interval is None else f"{interval.value:.4f} {_span(interval)}"


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return "-"
    span = "-" if interval.low is None else f"[{interval.low:+.4f},{NBSP}{interval.high:+.4f}]"
    return f"{interval.value:+.4f} {span}"
