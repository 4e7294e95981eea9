"""Tables of a report: text cells, and the same as LaTeX."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from recbole_mm.config.keys import hyper_parameters
from recbole_mm.reporting.statistics import Interval
from recbole_mm.tools.files import write_text

NBSP = "\N{NO-BREAK SPACE}"
BEST, SECOND = "best", "second"
LATEX_STYLES = {BEST: "textbf:--rwrap;", SECOND: "underline:--rwrap;"}


class Table(NamedTuple):
    """Text cells.

    Attributes:
        head: heads of the columns.
        rows: rows below the head.
        marks: marks of the best and the second-best cells, by row and column.
    """

    head: list[str]
    rows: list[list[str]]
    marks: dict[tuple[int, int], str] = {}  # noqa: RUF012  never changed


def best_two(columns: dict[int, list[float]]) -> dict[tuple[int, int], str]:
    """Marks of the largest and second-largest values of each column; values that are equal to four
    decimals have the same mark, and a column of equal values has none.

    Args:
        columns: values of all rows, by column; minus infinity for a row without a value.
    """
    marks: dict[tuple[int, int], str] = {}
    for column, values in columns.items():
        shown = [round(value, 4) for value in values]
        ranked = sorted(set(shown) - {-math.inf}, reverse=True)
        if len(ranked) < 2:
            continue
        names = {ranked[0]: BEST, ranked[1]: SECOND}
        marks |= {(row, column): names[v] for row, v in enumerate(shown) if v in names}
    return marks


def settings_table(configs: dict[str, dict], further: Sequence[str] = ()) -> Table:
    """One row per hyper-parameter that an entry reads, one column per entry.

    Args:
        configs: label -> configuration; empty for entries that are not models.
        further: additional keys.
    """
    configs = {label: config for label, config in configs.items() if config}
    read = {
        label: [*hyper_parameters(config["model"]), *further] for label, config in configs.items()
    }
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


def environment_table(made_with: list[tuple[dict[str, str], list[str]]]) -> Table:
    """Versions and machine, one column per environment in which runs were made.

    Args:
        made_with: environments, each with the labels of its runs.
    """
    environments = [environment for environment, _ in made_with]
    heads = _distinct([", ".join(labels) for _, labels in made_with])
    rows = [[name, *(e.get(name, "-") for e in environments)] for name in environments[0]]
    return Table(["environment", *(heads if len(heads) > 1 else [""])], rows)


def _distinct(heads: list[str]) -> list[str]:
    """The heads of columns; duplicates, such as those of several seeds of an entry, are
    numbered."""
    return [
        f"{head} ({heads[: place + 1].count(head)})" if heads.count(head) > 1 else head
        for place, head in enumerate(heads)
    ]


def p_value_cell(p: float) -> str:
    """A p-value to four decimals."""
    return "< 0.0001" if p < 5e-5 else f"{p:.4f}"


def mean_cell(means: dict[str, float], deviations: dict[str, float | None], name: str) -> str:
    """Mean and standard deviation over seeds of one metric."""
    if name not in means:
        return "-"
    mean, deviation = means[name], deviations[name]
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ±{NBSP}{deviation:.4f}"


def interval_cell(interval: Interval) -> str:
    """The interval alone."""
    return "-" if interval.low is None else f"[{interval.low:.4f},{NBSP}{interval.high:.4f}]"


def value_cell(interval: Interval | None) -> str:
    """A value with its interval."""
    return "-" if interval is None else f"{interval.value:.4f} {interval_cell(interval)}"


def difference_cell(interval: Interval | None) -> str:
    """A difference with its interval."""
    if interval is None:
        return "-"
    span = "-" if interval.low is None else f"[{interval.low:+.4f},{NBSP}{interval.high:+.4f}]"
    return f"{interval.value:+.4f} {span}"


def aligned(table: Table) -> list[str]:
    """The table as lines of text, with the first column left-aligned."""
    widths = [max(map(len, column)) for column in zip(table.head, *table.rows, strict=True)]
    lines = []
    for row in (table.head, *table.rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]))
    return lines


def latex(table: Table) -> str:
    """The table in booktabs style; the best value is bold, the second-best underlined."""
    cells = pd.DataFrame(table.rows).map(_plain)
    styles = pd.DataFrame("", index=cells.index, columns=cells.columns)
    for (row, column), mark in table.marks.items():
        styles.iat[row, column] = LATEX_STYLES[mark]
    cells.columns = styles.columns = pd.Index([_plain(name) or " " for name in table.head])
    styler = cells.style.hide(axis="index").format(escape="latex")
    styler = styler.format_index(escape="latex", axis=1).apply(lambda _: styles, axis=None)
    return styler.to_latex(hrules=True, column_format="l" + "r" * (len(table.head) - 1))


def _plain(cell: str) -> str:
    return cell.replace(NBSP, " ")


def write_tables(tables: dict[str, Table], folder: Path) -> list[Path]:
    """Write ``NAME.tex`` of every table that has rows.

    Returns:
        the paths.
    """
    paths = []
    for name, table in tables.items():
        if table.rows:
            paths.append(folder / f"{name}.tex")
            write_text(paths[-1], latex(table))
    return paths
