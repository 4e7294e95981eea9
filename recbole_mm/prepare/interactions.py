"""Interactions of users and items: typed and checked, row by row, without being held in memory.

They have the columns ``user_id, item_id, rating, timestamp``; the last two may be absent.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.prepare.cells import text_of
from recbole_mm.prepare.formats import TextFormat
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.table_files import place_of_row
from recbole_mm.prepare.times import (
    NAME_THEM,
    Times,
    impossible_times,
    unix_seconds,
    why_too_early,
)
from recbole_mm.tools.counts import by_reason

OPTIONAL = ("rating", "timestamp")
USUAL = {name: name for name in ("user_id", "item_id", *OPTIONAL)}
OWN = Times()


class Fault(NamedTuple):
    """A reason why rows are bad.

    Attributes:
        rows: expression that selects these rows.
        expected: what their values should be, ``number`` or ``time``; empty for other faults.
    """

    rows: pl.Expr
    expected: str = ""


def check_interactions(
    table: pl.LazyFrame,
    path,
    times: Times = OWN,
    drop_bad_rows: bool = False,
    names: Mapping[str, str] = USUAL,
    text: TextFormat | None = None,
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Give the columns their types: tokens, float32 rating, timestamp in unix seconds (float64).

    A rating or timestamp column that is entirely empty is dropped.

    Args:
        table: ``row, user_id, item_id[, rating][, timestamp]``: the number of the row in the file, and
            columns of any type.
        path: path of the file, for the messages.
        times: format of the times.
        drop_bad_rows: whether to drop and count bad rows instead of refusing the file.
        names: our name of each column -> the user's, for the messages.
        text: text format of the file, for the messages; ``None``: its lines are not rows.

    Returns:
        The typed table, and how many bad rows were dropped, by reason.

    Raises:
        InputError: no rows; or rows without user or item, with a token that RecBole cannot read, a
            rating or time that is not a number, a time before 1970 or after the year 2100; or all
            rows are bad, or all times before ``times.since``.
    """
    optional = [name for name in OPTIONAL if name in table.collect_schema()]
    typed = _typed(table, path, optional, times)
    faults = _faults(optional, names)
    counted = typed.select(
        pl.len(),
        *(pl.col(f"{name}_given").sum() for name in optional),
        *(fault.rows.fill_null(False).sum().alias(reason) for reason, fault in faults.items()),
        *_latest_time(optional),
    )
    counts = counted.collect(engine="streaming").row(0, named=True)
    if counts["len"] == 0:
        raise InputError(f"{path}: no interactions; expected one row per user-item event.")

    used = [name for name in optional if counts[f"{name}_given"]]
    for name in used:
        reason = f"no {names[name]} (other rows have one)"
        faults[reason] = Fault(~pl.col(f"{name}_given"))
        counts[reason] = counts["len"] - counts[f"{name}_given"]
    bad_rows = {reason: counts[reason] for reason in faults if counts[reason]}
    good = typed
    for reason in bad_rows:
        good = good.filter(~faults[reason].rows.fill_null(False))

    def first_of(rows: pl.LazyFrame) -> str:
        number = rows.select("row").head(1).collect().item()
        place = place_of_row(path, text, number)
        return f"{place}: {_in_words(table.filter(pl.col('row') == number), names)}"

    if bad_rows and (not drop_bad_rows or _is_empty(good)):
        reason = max(bad_rows, key=lambda reason: bad_rows[reason])
        raise InputError(
            f"{path}: bad rows: {by_reason(bad_rows)}, of {counts['len']:,}; the first with '{reason}' is "
            f"{first_of(typed.filter(faults[reason].rows))}. "
            f"{_fix(faults[reason].expected, times, drop_bad_rows)}."
        )
    if "timestamp" in used and times.since is not None and counts["latest"] < times.since:
        raise InputError(
            f"{path}: {why_too_early(counts['latest'], times)}; the first is {first_of(good)}. Fix the file "
            f"or {times.fix or NAME_THEM}."
        )
    return good.select("row", "user_id", "item_id", *used), bad_rows


def unusable_tokens(column: str, name: str) -> dict[str, pl.Expr]:
    """Why values of a token column cannot be in RecBole's files, and which these are.

    Args:
        column: name of the column in the table.
        name: name of this column in the user's file.
    """
    return {
        f"no {name}": pl.col(column).fill_null("") == "",
        f"{name} with a tab or a line break": pl.col(column).str.contains(r"[\t\r\n]"),
    }


def as_tokens(name: str, dtype: pl.DataType) -> pl.Expr:
    """The ids in the column ``name``, of any type, as they are in RecBole's files."""
    return text_of(pl.col(name), dtype).alias(name)


def _typed(table, path, optional, times: Times) -> pl.LazyFrame:
    schema = table.collect_schema()
    typed = [as_tokens(name, schema[name]) for name in ("user_id", "item_id")]
    if "rating" in optional:
        typed.append(_number("rating", schema["rating"]).cast(pl.Float32))
    if "timestamp" in optional:
        seconds = unix_seconds(table, path, times.unit, times.form, times.fix)
        typed.append(seconds.alias("timestamp"))
    given = [
        (as_tokens(name, schema[name]).fill_null("") != "").alias(f"{name}_given")
        for name in optional
    ]
    return table.select("row", *typed, *given)


def _faults(optional: list[str], names: Mapping[str, str]) -> dict[str, Fault]:
    """Reasons why a row is bad, in words -> the rows that are."""
    faults = {
        reason: Fault(rows)
        for column in ("user_id", "item_id")
        for reason, rows in unusable_tokens(column, names[column]).items()
    }
    if "rating" in optional:
        wrong = pl.col("rating_given") & ~_finite("rating")
        faults[f"{names['rating']} is not a number"] = Fault(wrong, "number")
    if "timestamp" in optional:
        wrong_times = {
            "is not a time": pl.col("timestamp_given") & ~_finite("timestamp"),
            **impossible_times("timestamp"),
        }
        for words, wrong in wrong_times.items():
            faults[f"{names['timestamp']} {words}"] = Fault(wrong, "time")
    return faults


def _is_empty(table: pl.LazyFrame) -> bool:
    return table.select("row").head(1).collect(engine="streaming").is_empty()


def _in_words(row: pl.LazyFrame, names: Mapping[str, str]) -> str:
    """A row as it is in the file."""
    values = row.drop("row").collect().row(0, named=True)
    return ", ".join(
        f"{names[name]} {'is empty' if value is None else repr(value)}"
        for name, value in values.items()
    )


def _fix(expected: str, times: Times, drop_bad_rows: bool) -> str:
    fix = "Fix the file"
    if expected == "number":
        fix += " (decimals are written with a point)"
    if expected == "time":
        fix += f"{' or' if drop_bad_rows else ','} {times.fix or NAME_THEM}"
    return fix if drop_bad_rows else f"{fix} or drop such rows with --drop-bad-rows"


def _latest_time(optional: list[str]) -> list[pl.Expr]:
    if "timestamp" not in optional:
        return []
    time = pl.col("timestamp")
    return [time.filter(_finite("timestamp") & (time <= YEAR_2100)).max().alias("latest")]


def _number(name: str, dtype) -> pl.Expr:
    column = pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _finite(name: str) -> pl.Expr:
    return pl.col(name).is_finite().fill_null(False)
