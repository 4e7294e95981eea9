r"""The report of a comparison: a table for the console, one HTML page, the same as Markdown.

The page is one file: figures and pictures stand in it, nothing is loaded from elsewhere.
"""

import re
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from recbole_mm.compare.comparison import Summary
from recbole_mm.compare.examples import Example
from recbole_mm.compare.figures import grouped_bars, learning_curves, slice_bars
from recbole_mm.compare.statistics import LEAST_USERS, LEVEL, RESAMPLES, Interval
from recbole_mm.tools.files import whole_or_not, write_text

NBSP = "\N{NO-BREAK SPACE}"


class Table(NamedTuple):
    """Text cells."""

    head: list[str]
    rows: list[list[str]]


def text_table(summary: Summary) -> str:
    """The differences for the console, with the conditions under which the numbers hold."""
    table = differences_table(summary)
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = [summary.conditions]
    for row in (table.head, *table.rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    lines += [f"NO RESULT: {f.run.label}, seed {f.run.seed}: {f.reason}" for f in summary.failures]
    return "\n".join(lines)


def write_report(summary: Summary, command: str, examples: list[Example]) -> list[Path]:
    """Write ``report.html``, ``report.md`` and all ranks, ``ranks.parquet``.

    Args:
        summary: the numbers.
        command: how they were made.
        examples: users to be shown.

    Returns:
        the paths.
    """
    settings = summary.settings
    kinds = dict.fromkeys(part.kind for part in summary.slices)
    labels = [row.label for row in summary.rows]
    sets = list(dict.fromkeys(name for of in summary.knockouts.values() for name in of))
    bars = {
        kind: Markup(
            slice_bars([p for p in summary.slices if p.kind == kind], labels, settings.metric)
        )
        for kind in kinds
    }
    content = {
        "title": f"{', '.join(labels)} on {settings.dataset}",
        "conditions": summary.conditions,
        "warning": summary.warning,
        "failures": summary.failures,
        "metric": settings.metric,
        "tables": {
            "metrics": metrics_table(summary),
            "differences": differences_table(summary),
            "cost": cost_table(summary),
            "slices": slices_table(summary),
            "slice_differences": slice_differences_table(summary),
            "knockouts": knockouts_table(summary),
            "data": Table(
                ["data", ""], [[k, f"{v:,}"] for k, v in summary.described.counts.items()]
            ),
            "hashes": Table(["file", "SHA-256"], [[k, v] for k, v in summary.hashes.items()]),
            "environment": environment_table(summary),
        },
        "figures": {
            "curves": Markup(learning_curves(summary.curves, summary.valid_metric)),
            "slices": bars,
            "knockouts": Markup(grouped_bars(summary.knockouts, sets, settings.metric))
            if sets
            else "",
        },
        "notes": _notes(summary),
        "examples": examples,
        "command": command,
    }
    paths = []
    for name, autoescape in (("report.html", True), ("report.md", False)):
        path = settings.out / name
        write_text(path, render(name, content, autoescape))
        paths.append(path)
    path = settings.out / "ranks.parquet"
    with whole_or_not(path) as temporary:
        summary.ranks.sink_parquet(temporary)
    return [*paths, path]


def metrics_table(summary: Summary) -> Table:
    """Mean and standard deviation over seeds of every metric."""
    names = list(summary.rows[0].means)
    rows = [
        [row.label, str(row.seeds), *(_mean(row.means[n], row.deviations[n]) for n in names)]
        for row in summary.rows
    ]
    return Table(["", "seeds", *(_short(name) for name in names)], rows)


def _short(name: str) -> str:
    """RecBole's ``itemcoverage@10`` and ``averagepopularity@10`` in a word."""
    return name.removeprefix("item").removeprefix("average")


def differences_table(summary: Summary) -> Table:
    """The metric of the tests, its interval over users, and each difference from the baseline."""
    metric, baseline = summary.settings.metric, summary.settings.baseline
    rows = []
    for row in summary.rows:
        cells = [row.label, _mean(row.means[metric], row.deviations[metric]), _span(row.interval)]
        if row.against_baseline is None:
            rows.append([*cells, "baseline", "", "", ""])
            continue
        difference, p, corrected = row.against_baseline
        base = row.interval.value - difference.value
        share = f"{difference.value / base:+.1%}" if base else "-"
        rows.append([*cells, _difference(difference), share, f"{p:.4f}", f"{corrected:.4f}"])
    head = ["", metric, "interval over users", f"minus {baseline}", "change", "p", "p (Holm)"]
    return Table(head, rows)


def cost_table(summary: Summary) -> Table:
    """Means over seeds of what training cost."""
    rows = [
        [
            row.label,
            f"{row.cost['epochs']:.1f}",
            f"{row.cost['seconds']:.0f}",
            f"{row.cost['n_parameters']:,.0f}",
        ]
        for row in summary.rows
    ]
    return Table(["", "epochs", "seconds", "trainable parameters"], rows)


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


def knockouts_table(summary: Summary) -> Table:
    """One row per entry with item features, one column per set of features."""
    names = list(dict.fromkeys(name for of in summary.knockouts.values() for name in of))
    rows = [
        [label, *(_span_of(values.get(name)) for name in names)]
        for label, values in summary.knockouts.items()
    ]
    return Table(["", *names], rows)


def environment_table(summary: Summary) -> Table:
    """Versions and machine; a column for each of several with which runs were made."""
    environments = [environment for environment, _ in summary.environments]
    heads = [", ".join(labels) for _, labels in summary.environments]
    rows = [[name, *(e.get(name, "-") for e in environments)] for name in environments[0]]
    return Table(["environment", *(heads if len(heads) > 1 else [""])], rows)


def render(name: str, content: dict, autoescape: bool) -> str:
    """A template of this package with its content; figures are markup already."""
    environment = Environment(loader=PackageLoader("recbole_mm.compare"), autoescape=autoescape)
    environment.filters["breakable"] = breakable
    return environment.get_template(f"{name}.j2").render(content)


def breakable(text: str) -> Markup:
    """Text whose lines may break before a setting of an entry and the length of a list, so that
    wide tables fit a page."""
    return Markup(re.sub(r"(?=\+[A-Za-z_]|@\d)", "<wbr>", str(escape(text))))


def _notes(summary: Summary) -> dict[str, str]:
    metric, baseline = summary.settings.metric, summary.settings.baseline
    one_seed = all(row.seeds == 1 for row in summary.rows)
    spread = (
        "One seed: nothing is said about the spread over seeds."
        if one_seed
        else "Mean and standard deviation over seeds."
    )
    interval = f"{LEVEL:.0%} bootstrap intervals over users ({RESAMPLES:,} resamples)"
    return {
        "metrics": f"{spread} Hit@k equals Recall@k: there is one truth. coverage is the "
        f"share of the catalog that is recommended to anybody, popularity the mean number "
        f"of training interactions of what is recommended (less is more novel). "
        f"{summary.conditions}",
        "differences": f"{interval}, paired: every entry is compared with {baseline} on the same "
        f"users, its metric averaged over seeds. p: paired randomization test over users, "
        f"two-sided; the last column is corrected for the number of entries (Holm). Both take "
        f"the trained models as they are: the spread over seeds is the first column's.",
        "slices": f"{metric} with {interval}, and the paired differences from {baseline}. An empty "
        f"slice has no value; fewer than {LEAST_USERS} users, or users of one value, have no "
        f"interval. Intervals of many slices are not corrected for their number. "
        f"{summary.conditions}",
        "knockouts": f"{metric} with {interval}. The trained model is scored again with the "
        f"features of one modality only, and with the features of all items shuffled; its "
        f"weights and item ids stay. {summary.conditions}",
        "examples": "Test users drawn at random among those for whom some entry has the truth in "
        "its first five. What came next has a thick frame.",
    }


def _mean(mean: float, deviation: float | None) -> str:
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
