"""Interactions of users and items: typed and checked, row by row, without being held in memory.

They have the columns ``user_id, item_id, rating, timestamp``; the last two may be absent.
"""

import polars as pl

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.prepare.cells import text_of
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.times import NAME_THEM, Times, unix_seconds, why_too_early

OPTIONAL = ("rating", "timestamp")
OWN = Times()


def check_interactions(
    table: pl.LazyFrame,
    path,
    times: Times = OWN,
    drop_bad_rows: bool = False,
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Give the columns their types: tokens, float32 rating, timestamp in unix seconds (float64).

    A rating or timestamp column that is empty throughout is left out. Rows keep their number in
    the column ``row``.

    Args:
        table: ``user_id, item_id[, rating][, timestamp]`` of any type.
        path: for the messages.
        times: how they are written.
        drop_bad_rows: leave bad rows out and count them, instead of refusing the file.

    Returns:
        The typed table, and how many bad rows it leaves out, by reason.

    Raises:
        InputError: no rows; or rows without user or item, with a token that RecBole cannot read, a
            rating or time that is not a number, a time before 1970 or after the year 2100; or all
            rows are bad, or all times before ``times.since``.
    """
    optional = [name for name in OPTIONAL if name in table.collect_schema()]
    typed = _typed(table, path, optional, times)
    reasons = _reasons(optional)
    counted = typed.select(
        pl.len(),
        *(pl.col(f"{name}_given").sum() for name in optional),
        *(bad.fill_null(False).sum().alias(reason) for reason, bad in reasons.items()),
        *_latest_time(optional),
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
    good = typed
    for reason in bad_rows:
        good = good.filter(~reasons[reason].fill_null(False))
    if bad_rows and (not drop_bad_rows or _is_empty(good)):
        reason = max(bad_rows, key=lambda reason: bad_rows[reason])
        example = _row(table, typed.filter(reasons[reason]))
        fix = _fix(reason, times, drop_bad_rows)
        raise InputError(
            f"{path}: bad rows: {bad_rows} of {counts['len']}; the first with '{reason}' is {example}. "
            f"{fix}."
        )
    if "timestamp" in used:
        _refuse_early(path, counts["latest"], good, table, times)
    return good.select("row", "user_id", "item_id", *used), bad_rows


def unusable_tokens(name: str) -> dict[str, pl.Expr]:
    """Why values of a token column cannot be in RecBole's files, and which these are."""
    return {
        f"no {name}": pl.col(name).fill_null("") == "",
        f"{name} with a tab or a line break": pl.col(name).str.contains(r"[\t\r\n]"),
    }


def as_tokens(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of ids of any type, of this name, as they are in RecBole's files."""
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


def _is_empty(table: pl.LazyFrame) -> bool:
    return table.select("row").head(1).collect(engine="streaming").is_empty()


def _row(table: pl.LazyFrame, chosen: pl.LazyFrame) -> str:
    """The first of the chosen rows, as the file has it."""
    number = chosen.select("row").head(1).collect().item()
    return f"row {number + 1}: {table.slice(number, 1).collect().row(0, named=True)}"


def _fix(reason: str, times: Times, drop_bad_rows: bool) -> str:
    fix = "Fix the file"
    if reason.startswith("rating"):
        fix += " (decimals are written with a point)"
    if reason.startswith("timestamp"):
        fix += f"{' or' if drop_bad_rows else ','} {times.fix or NAME_THEM}"
    return fix if drop_bad_rows else f"{fix} or leave such rows out with --drop-bad-rows"


def _latest_time(optional: list[str]) -> list[pl.Expr]:
    if "timestamp" not in optional:
        return []
    time = pl.col("timestamp")
    return [time.filter(_finite("timestamp") & (time <= YEAR_2100)).max().alias("latest")]


def _refuse_early(
    path, latest: float, good: pl.LazyFrame, table: pl.LazyFrame, times: Times
) -> None:
    if times.since is not None and latest < times.since:
        raise InputError(
            f"{path}: {why_too_early(latest, times)}; the first is {_row(table, good)}. Fix the file or "
            f"{times.fix or NAME_THEM}."
        )


def _number(name: str, dtype) -> pl.Expr:
    column = pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _finite(name: str) -> pl.Expr:
    return pl.col(name).is_finite().fill_null(False)
