"""The report of a comparison: one HTML page, the same as Markdown, and its parts as files.

The page is one file: figures and pictures are embedded, nothing is loaded from elsewhere.
"""

from pathlib import Path

from markupsafe import Markup
from matplotlib.figure import Figure

from recbole_mm.compare import exports, report_tables
from recbole_mm.compare.examples import Example
from recbole_mm.compare.slices import Slice
from recbole_mm.compare.summary import Summary
from recbole_mm.reporting.figures import grouped_bars, learning_curves, svg_text, write_figure
from recbole_mm.reporting.page import render
from recbole_mm.reporting.parts import remove_stale
from recbole_mm.reporting.statistics import LEAST_USERS, LEVEL, RESAMPLES
from recbole_mm.reporting.tables import Table, environment_table, settings_table, write_tables
from recbole_mm.tools.files import whole_or_not, write_text

SLICES = "by_"
"""Prefix of the names of slice figures."""

OTHER_TITLES = {
    False: "The same runs, items of the history masked at test",
    True: "The same runs, items of the history as candidates too",
}


def write_report(summary: Summary, command: str, examples: list[Example]) -> list[Path]:
    """Write ``report.html``, ``report.md``, all numbers (``numbers.csv``), all ranks
    (``ranks.parquet``), ``tables/*.tex`` and ``figures/*.svg`` and ``.pdf``.

    Args:
        summary: numbers of the comparison.
        command: command line that produced them.
        examples: users to show.

    Returns:
        the paths.
    """
    settings = summary.settings
    labels = [row.label for row in summary.rows]
    tables, figures = _tables(summary), _figures(summary, labels)
    content = {
        "title": f"{', '.join(labels)} on {settings.dataset}",
        "conditions": summary.background.conditions,
        "warning": summary.background.warning,
        "failures": summary.failures,
        "unfinished_curves": report_tables.unfinished_curves_note(summary),
        "other_title": OTHER_TITLES[settings.mask_seen],
        "metric": settings.metric,
        "tables": tables,
        "figures": _embedded(figures),
        "notes": _notes(summary),
        "examples": examples,
        "command": command,
    }
    paths = []
    for name in ("report.html", "report.md"):
        path = settings.out / name
        write_text(path, render("recbole_mm.compare", name, content))
        paths.append(path)
    paths += [settings.out / "numbers.csv", settings.out / "ranks.parquet"]
    exports.write_numbers(summary, paths[-2])
    with whole_or_not(paths[-1]) as temporary:
        summary.ranks.sink_parquet(temporary)
    paths += write_tables(tables, settings.out / "tables")
    for name, figure in figures.items():
        paths += write_figure(figure, settings.out / "figures" / name)
    names = ("learning_curves", "knockouts", f"{SLICES}*")
    patterns = [f"figures/{name}.{form}" for name in names for form in ("svg", "pdf")]
    remove_stale(settings.out, [*(f"tables/{name}.tex" for name in tables), *patterns], paths)
    return paths


def _tables(summary: Summary) -> dict[str, Table]:
    return {
        "metrics": report_tables.metrics_table(summary),
        "other_metrics": report_tables.other_metrics_table(summary),
        "differences": report_tables.differences_table(summary),
        "cost": report_tables.cost_table(summary),
        "settings": settings_table(summary.configs),
        "slices": report_tables.slices_table(summary),
        "slice_differences": report_tables.slice_differences_table(summary),
        "knockouts": report_tables.knockouts_table(summary),
        "data": report_tables.dataset_table(summary),
        "hashes": report_tables.hashes_table(summary),
        "environment": environment_table(summary.environments),
    }


def _figures(summary: Summary, labels: list[str]) -> dict[str, Figure]:
    """The figures by file name."""
    metric = summary.settings.metric
    figures = {}
    if summary.curves:
        figures["learning_curves"] = learning_curves(summary.curves, summary.valid_metric)
    for kind in dict.fromkeys(part.kind for part in summary.slices):
        parts = [part for part in summary.slices if part.kind == kind]
        figures[SLICES + kind.replace(" ", "_")] = slice_bars(parts, labels, metric)
    sets = report_tables.feature_sets(summary)
    if sets:
        figures["knockouts"] = grouped_bars(summary.knockouts, sets, metric)
    return figures


def slice_bars(parts: list[Slice], labels: list[str], metric: str) -> Figure:
    """Bars with intervals: one group per slice, one bar per label."""
    groups = {f"{part.name}\nn = {part.targets:,}": part.values for part in parts}
    return grouped_bars(groups, labels, metric)


def _embedded(figures: dict[str, Figure]) -> dict:
    """The figures as elements of the page."""
    texts = {name: Markup(svg_text(figure)) for name, figure in figures.items()}
    slices = {
        name.removeprefix(SLICES).replace("_", " "): text
        for name, text in texts.items()
        if name.startswith(SLICES)
    }
    curves, knockouts = texts.get("learning_curves", ""), texts.get("knockouts", "")
    return {"curves": curves, "slices": slices, "knockouts": knockouts}


def _notes(summary: Summary) -> dict[str, str]:
    metric, baseline = summary.settings.metric, summary.settings.baseline
    conditions = summary.background.conditions
    spread = "Mean and standard deviation over seeds."
    if all(row.seeds == 1 for row in summary.rows):
        spread = "One seed: the spread over seeds is unknown."
    interval = f"{LEVEL:.0%} bootstrap intervals over users ({RESAMPLES:,} resamples)"
    return {
        "metrics": f"{spread} Hit@k equals Recall@k: each target is one item. coverage is the share "
        f"of the catalog that is recommended to at least one user, popularity the mean number of "
        f"training interactions of the recommended items (lower is more novel). {conditions}",
        "differences": f"Every entry is compared with {baseline} on the same users, with its "
        f"metric averaged over seeds. {_meaning_of_p(summary)} The last column is corrected for "
        f"the number of entries (Holm). The interval of an entry itself is a bootstrap over users "
        f"({RESAMPLES:,} resamples), for the trained models as they are.",
        "slices": f"{metric} with {interval}, and the paired differences from {baseline}. An empty "
        f"slice has no value; a slice of fewer than {LEAST_USERS} users, or of users with equal "
        f"values, has no interval. The intervals are not corrected for the number of slices. "
        f"{conditions}",
        "knockouts": f"{metric} with {interval}. The trained model is scored again with the "
        f"features of one modality only, with the features of all items shuffled and, if it "
        f"reads times, with the intervals of a history in another order; its weights and item ids "
        f"stay the same. {conditions}",
        "examples": "Test users drawn at random from those for whom at least one entry has the "
        "target among its first five items. The target has a thick frame.",
    }


def _meaning_of_p(summary: Summary) -> str:
    """What the intervals and p values of the differences generalize to."""
    compared = [(row.label, row.against_baseline) for row in summary.rows if row.against_baseline]
    fixed = [label for label, difference in compared if not difference.includes_seeds]
    both = (
        f"{LEVEL:.0%} intervals and p (Welch's t) generalize to other users and other seeds: the "
        f"variance over users and the variance over seeds of both entries are added."
    )
    users = (
        f"{LEVEL:.0%} bootstrap intervals and p (paired randomization test) generalize to other "
        f"users of THESE TRAINED MODELS only: with one seed the variation of training is unknown, "
        f"and equal models that differ only in their seeds often appear different."
    )
    if not fixed:
        return both
    return users if len(fixed) == len(compared) else f"{both} For {', '.join(fixed)}: {users}"
