"""Interactions of users and items: typed and checked, row by row, without being held in memory.

They have the columns ``user_id, item_id, rating, timestamp``; the last two may be absent.
"""

import polars as pl

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.times import unix_seconds

OPTIONAL = ("rating", "timestamp")
OTHER_FIXES = {
    "rating": " (decimals are written with a point)",
    "timestamp": ", name the unit or the form of its times (--time-unit, --time-format)",
}


def check_interactions(
    table: pl.LazyFrame,
    path,
    time_unit: str | None = None,
    drop_bad_rows: bool = False,
    time_format: str | None = None,
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Give the columns their types: tokens, float32 rating, timestamp in unix seconds (float64).

    A rating or timestamp column that is empty throughout is left out. Rows keep their number in
    the column ``row``.

    Args:
        table: ``user_id, item_id[, rating][, timestamp]`` of any type.
        path: for the messages.
        time_unit: of numeric times, one of ``s, ms, us, ns``; dates and ISO texts need none.
        drop_bad_rows: leave bad rows out and count them, instead of refusing the file.
        time_format: of times as text, see :func:`recbole_mm.prepare.times.unix_seconds`.

    Returns:
        The typed table, and how many bad rows it leaves out, by reason.

    Raises:
        InputError: no rows; or rows without user or item, with a token that RecBole cannot read, a
            rating or time that is not a number, a time before 1970 or after the year 2100.
    """
    optional = [name for name in OPTIONAL if name in table.collect_schema()]
    typed = _typed(table, path, optional, time_unit, time_format)
    reasons = _reasons(optional)
    counted = typed.select(
        pl.len(),
        *(pl.col(f"{name}_given").sum() for name in optional),
        *(bad.fill_null(False).sum().alias(reason) for reason, bad in reasons.items()),
    )
    counts = counted.collect(engine="streaming").row(0, named=True)
    if counts["len"] == 0:
        raise InputError(f"{path}: no interactions; expected one row per user-item event.")

    used = [name for name in optional if counts[f"{name}_given"]]
    for name in used:
        reason = f"no {name} (other rows have one)"
        reasons[reason] = ~pl.col(f"{name}_given")
        counts[reason] = counts["len"] - counts[f"{name}_given"]
    bad_rows = {reason: counts[reason] for reason in reasons if counts[reason]}
    if bad_rows and not drop_bad_rows:
        reason = next(iter(bad_rows))
        _refuse_bad_rows(
            path, bad_rows, counts["len"], reason, table, typed.filter(reasons[reason])
        )
    for reason in bad_rows:
        typed = typed.filter(~reasons[reason].fill_null(False))
    return typed.select("row", "user_id", "item_id", *used), bad_rows


def unusable_tokens(name: str) -> dict[str, pl.Expr]:
    """Why values of a token column cannot be in RecBole's files, and which these are."""
    return {
        f"no {name}": pl.col(name).fill_null("") == "",
        f"{name} with a tab or a line break": pl.col(name).str.contains(r"[\t\r\n]"),
    }


def as_tokens(name: str) -> pl.Expr:
    """A column of any type as text without blanks around it."""
    return pl.col(name).cast(pl.String).str.strip_chars()


def _typed(table, path, optional, time_unit, time_format) -> pl.LazyFrame:
    typed = [as_tokens("user_id"), as_tokens("item_id")]
    if "rating" in optional:
        typed.append(_number("rating", table.collect_schema()["rating"]).cast(pl.Float32))
    if "timestamp" in optional:
        typed.append(unix_seconds(table, path, time_unit, time_format).alias("timestamp"))
    given = [(as_tokens(name).fill_null("") != "").alias(f"{name}_given") for name in optional]
    return table.select(*typed, *given).with_row_index("row")


def _reasons(optional: list[str]) -> dict[str, pl.Expr]:
    """Why a row is bad, and the rows that are."""
    reasons = {**unusable_tokens("user_id"), **unusable_tokens("item_id")}
    if "rating" in optional:
        reasons["rating is not a number"] = pl.col("rating_given") & ~_finite("rating")
    if "timestamp" in optional:
        reasons["timestamp is not a time"] = pl.col("timestamp_given") & ~_finite("timestamp")
        reasons["timestamp before 1970"] = pl.col("timestamp") < 0
        reasons["timestamp after 2100"] = pl.col("timestamp") > YEAR_2100
    return reasons


def _refuse_bad_rows(path, bad_rows, n_rows: int, reason: str, table, bad: pl.LazyFrame) -> None:
    example = bad.select("row").head(1).collect().item()
    raw = table.slice(example, 1).collect().row(0, named=True)
    column = reason.removeprefix("no ").partition(" ")[0]
    raise InputError(
        f"{path}: bad rows: {bad_rows} of {n_rows}; the first with '{reason}' is row {example + 1}: "
        f"{raw}. Fix the file{OTHER_FIXES.get(column, '')} or leave such rows out with --drop-bad-rows."
    )


def _number(name: str, dtype) -> pl.Expr:
    column = pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _finite(name: str) -> pl.Expr:
    return pl.col(name).is_finite().fill_null(False)
