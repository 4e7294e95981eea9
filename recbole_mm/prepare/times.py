"""Times in any format as unix seconds. An ambiguous format is not guessed."""

import re
from datetime import datetime, timezone
from typing import NamedTuple

import polars as pl

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.prepare.cells import text_of
from recbole_mm.prepare.fields import SECONDS_PER_UNIT
from recbole_mm.prepare.inputs import InputError

LOOKED_AT = 1000
"""Number of values from which the format of a column is recognized."""

ISO = r"^(\d{4})[-/](\d{1,2})[-/](\d{1,2})(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(\.\d+)?)?)?"
ZONE = r"\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$"
DIGITS = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
DATES = (
    "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d %b %Y",
    "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%m %d, %Y",
)  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")
COMMON_FORMATS = (
    *(date + clock for date in DATES for clock in CLOCKS), "%a %b %d %H:%M:%S %z %Y", "%Y%m%dT%H%M%S",
)  # fmt: skip


YEAR_1995 = 788918400
"""Unix seconds of the first web shops; no public data set has an earlier event."""


NAME_THEM = "name the unit or the format of its times (--time-unit, --time-format)"


class Times(NamedTuple):
    """How the times of a table are written.

    Attributes:
        unit: unit of times as numbers, see :func:`unix_seconds`.
        form: format of times as text, see :func:`unix_seconds`.
        since: unix seconds that the latest time must reach; ``None``: no limit.
        fix: what the user can do about wrongly read times, if not to name their unit or format
            (:data:`NAME_THEM`).
    """

    unit: str | None = None
    form: str | None = None
    since: float | None = None
    fix: str = ""


def impossible_times(column: str) -> dict[str, pl.Expr]:
    """Why times in unix seconds cannot be right, and which these are."""
    return {"before 1970": pl.col(column) < 0, "after 2100": pl.col(column) > YEAR_2100}


def why_too_early(latest: float, times: Times) -> str:
    """What is wrong with times of which the latest is before ``times.since``."""
    unit = times.unit or "s"
    value = latest / SECONDS_PER_UNIT[unit]
    fitting = [
        f"{other} ({_day(value * seconds)})"
        for other, seconds in SECONDS_PER_UNIT.items()
        if (times.since or 0) <= value * seconds <= YEAR_2100
    ]
    hint = f"; the latest time would fit in {' or '.join(fitting)}" if fitting else ""
    return (
        f"all times are before {_day(times.since or 0)}, the latest is {_day(latest)}. Expected times "
        f"in {unit} since 1970{hint}"
    )


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).date().isoformat()


def unix_seconds(
    table: pl.LazyFrame,
    path,
    unit: str | None = None,
    time_format: str | None = None,
    fix: str = "",
) -> pl.Expr:
    """The column ``timestamp`` as unix seconds, float64; null where a value is not a time.

    Numbers count ``unit`` since 1970. Dates of a typed column need nothing more, nor do texts with
    the year first (``2017-07-01``, ``2017-07-01T20:33:00+02:00``); other texts need
    ``time_format``. Times without a zone are UTC.

    Args:
        table: table with the column.
        path: path of the table, for the messages.
        unit: unit of numbers: ``s`` (default), ``ms``, ``us`` or ``ns``.
        time_format: format as for :func:`time.strptime`, as in ``%d/%m/%Y``.
        fix: what to do about another format, if ``time_format`` cannot be given.

    Raises:
        InputError: the format is unknown, or does not fit the column; the message has those that
            fit.
    """
    column, dtype = pl.col("timestamp"), table.collect_schema()["timestamp"]
    if isinstance(dtype, (pl.Date, pl.Datetime)):
        return column.dt.epoch("us") / 1e6
    if dtype.is_temporal() or dtype.is_nested():
        raise InputError(
            f"{path}: the times are of type {dtype}, expected dates, numbers or texts."
        )
    text = text_of(column, dtype)
    shown = table.select(text).filter(column.fill_null("") != "").head(LOOKED_AT).collect()
    values = shown.to_series().to_list()
    if time_format:
        _check_format(path, values, time_format)
        return _parsed(text, time_format)
    if not values or _is_number(values[0]):
        if unit is None:
            _refuse_dates_as_numbers(path, values)
        number = (
            text.cast(pl.Float64, strict=False) if dtype == pl.String else column.cast(pl.Float64)
        )
        return number * SECONDS_PER_UNIT[unit or "s"]
    if not re.match(ISO + ZONE, values[0]):
        raise InputError(f"{path}: {_unknown_form(values, fix)}")
    return _parsed_iso(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse_dates_as_numbers(path, values: list[str]) -> None:
    """Refuse dates such as 20170701, which in seconds would be a day in 1970."""
    form = DIGITS.get(len(values[0])) if values else None
    if form and all(_fits(value, form) for value in values):
        raise InputError(
            f"{path}: times such as {values[0]} look like dates, not like seconds. Add "
            f"--time-format={form}, or --time-unit=s if they are seconds since 1970."
        )


def _fits(value: str, form: str) -> bool:
    try:
        return 1900 <= datetime.strptime(value, form).year <= 2100
    except ValueError:
        return False


def _unknown_form(values: list[str], fix: str) -> str:
    if fix:
        return f"times such as {values[0]!r} are not numbers. Get the file again, or {fix}."
    fitting = [form for form in COMMON_FORMATS if all(_fits(value, form) for value in values)]
    text = (
        f"times such as {values[0]!r} do not start with the year, and their format is not guessed. "
    )
    if fitting:
        forms = " or ".join(f"--time-format='{form}'" for form in fitting)
        return f"{text}Add {forms}."
    return f"{text}Name it, as in --time-format='%d/%m/%Y %H:%M' for 31/12/2017 23:59."


def _check_format(path, values: list[str], form: str) -> None:
    """Check that the format is valid for strptime, and fits the first value."""
    if "%Z" in form:
        raise InputError(
            f"{path}: --time-format={form!r}: names of time zones (%Z) have no fixed meaning. Write "
            f"offsets such as +0200 (%z) into the file, or times in UTC."
        )
    if not values:
        return
    try:
        datetime.strptime(values[0], form)
    except (ValueError, re.error) as error:
        raise InputError(
            f"{path}: --time-format={form!r} does not fit the times, the first is {values[0]!r} "
            f"({error})."
        ) from error


def _parsed(text: pl.Expr, form: str) -> pl.Expr:
    """Parse by strptime's format, translated for polars; a missing month or day is the first."""
    form = form.replace(".%f", "%.f").replace("%f", "%6f")
    if "%z" in form:
        text = text.str.replace("Z$", "+0000")
    if not re.search(r"%-?[dejDFxc]", form):
        month = "" if re.search(r"%-?[mbBh]", form) else " %m"
        text, form = text + (" 01" if month else "") + " 01", f"{form}{month} %d"
    return text.str.to_datetime(form, time_unit="us", strict=False).dt.epoch("us") / 1e6


def _parsed_iso(text: pl.Expr) -> pl.Expr:
    """Parse date, clock and zone separately; missing parts are zero."""
    part = text.str.extract_groups(ISO + ZONE).struct.field
    date = pl.concat_str(part("1"), part("2"), part("3"), separator="-")
    clock = pl.concat_str(
        part("4").fill_null("00"),
        part("5").fill_null("00"),
        part("6").fill_null("00"),
        separator=":",
    )
    zone = part("8").fill_null("+00").replace({"Z": "+00", "UTC": "+00"}).str.replace(":", "")
    zone = zone + pl.when(zone.str.len_chars() == 3).then(pl.lit("00")).otherwise(pl.lit(""))
    whole = pl.concat_str(date, clock, separator=" ") + part("7").fill_null("") + zone
    moment = whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", time_unit="us", strict=False)
    return moment.dt.epoch("us") / 1e6
