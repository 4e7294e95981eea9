import datetime

import polars as pl
import pytest

from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.times import unix_seconds

NOON = 1398945600.0  # 2014-05-01 12:00 UTC
MIDNIGHT = NOON - 12 * 3600


def seconds(*values, unit=None, time_format=None):
    table = pl.LazyFrame({"timestamp": list(values)})
    return (
        table.select(unix_seconds(table, "a.csv", unit, time_format))
        .collect()
        .to_series()
        .to_list()
    )


@pytest.mark.parametrize("unit, factor", [(None, 1), ("s", 1), ("ms", 10**3), ("us", 10**6)])
def test_numbers_count_a_unit_since_1970(unit, factor):
    assert seconds(int(NOON) * factor, unit=unit) == [NOON]
    assert seconds(f" {int(NOON) * factor} ", unit=unit) == [NOON]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("2014-05-01T12:00:00", NOON),
        ("2014-05-01 12:00", NOON),
        ("2014/05/01 12:00:00", NOON),
        ("2014-05-01T12:00:00Z", NOON),
        ("2014-05-01T12:00:00.500Z", NOON + 0.5),
        ("2014-05-01T14:00:00+02:00", NOON),
        ("2014-05-01 07:00:00-0500", NOON),
        ("2014-05-01 14:00+02", NOON),
        ("2014-05-01", MIDNIGHT),
        ("2014-5-1", MIDNIGHT),
        (" 2014-05-01 ", MIDNIGHT),
    ],
)
def test_texts_with_the_year_first_need_nothing_more(text, expected):
    assert seconds(text) == [expected]
    assert seconds(text, "2014-13-01", "", None, "7") == [expected, None, None, None, None]


def test_typed_dates_need_nothing_more():
    berlin = datetime.timezone(datetime.timedelta(hours=2))

    assert seconds(datetime.datetime(2014, 5, 1, 12)) == [NOON]
    assert seconds(datetime.datetime(2014, 5, 1, 14, tzinfo=berlin)) == [NOON]
    assert seconds(datetime.date(2014, 5, 1)) == [MIDNIGHT]


@pytest.mark.parametrize(
    "form, text, expected",
    [
        ("%d/%m/%Y", "01/05/2014", MIDNIGHT),
        ("%m/%d/%Y", "05/01/2014", MIDNIGHT),
        ("%d.%m.%y", "1.5.14", MIDNIGHT),
        ("%m/%d/%Y %I:%M %p", "05/01/2014 12:00 PM", NOON),
        ("%m %d, %Y", "05 1, 2014", MIDNIGHT),
        ("%a %b %d %H:%M:%S %z %Y", "Thu May 01 14:00:00 +0200 2014", NOON),
        ("%Y-%m-%dT%H:%M:%S%z", "2014-05-01T12:00:00Z", NOON),
        ("%d/%m/%Y %H:%M:%S.%f", "01/05/2014 12:00:00.25", NOON + 0.25),
        ("%Y%m%d", "20140501", MIDNIGHT),
        ("%Y%m%d%H%M%S", "20140501120000", NOON),
        ("%B %Y", "May 2014", MIDNIGHT),
        ("%Y", "2014", 1388534400.0),
    ],
)
def test_other_texts_have_the_form_that_is_given(form, text, expected):
    assert seconds(text, time_format=form) == [expected]
    assert seconds(text, "yesterday", time_format=form) == [expected, None]


@pytest.mark.parametrize("value", [20140501, 20140501.0, "20140501"])
def test_dates_written_as_numbers_are_refused_with_their_form_and_read_with_it(value):
    with pytest.raises(InputError, match=r"20140501 look like dates.*--time-format=%Y%m%d"):
        seconds(value, value)

    assert seconds(value, time_format="%Y%m%d") == [MIDNIGHT]
    assert seconds(value, unit="s") == [20140501.0]


@pytest.mark.parametrize(("value", "form"), [(201405, "%Y%m"), (2014, "%Y")])
def test_months_and_years_are_dates_too(value, form):
    with pytest.raises(InputError, match=f"{value} look like dates.*--time-format={form}"):
        seconds(value, value)


def test_numbers_that_are_not_all_dates_are_seconds():
    assert seconds(20140501, 20149901) == [20140501.0, 20149901.0]
    assert seconds(300, 100) == [300.0, 100.0]


@pytest.mark.parametrize(
    "texts, forms",
    [
        (
            ["07/01/2017", "12/05/2017"],
            r"Add --time-format='%d/%m/%Y' or --time-format='%m/%d/%Y'\.",
        ),
        (["07/01/2017", "07/14/2017"], r"Add --time-format='%m/%d/%Y'\."),
        (["31.12.2017 23:59"], r"Add --time-format='%d.%m.%Y %H:%M'\."),
        (["1st of May"], r"as in --time-format='%d/%m/%Y %H:%M'"),
    ],
)
def test_a_text_without_the_year_first_is_refused_with_the_forms_that_fit(texts, forms):
    with pytest.raises(InputError, match=rf"a\.csv: times such as '{texts[0]}'.*{forms}"):
        seconds(*texts)


@pytest.mark.parametrize(
    "form, words",
    [
        ("banana", "does not fit the times, the first is '01/05/2014'"),
        ("%Q", "bad directive"),
        ("%d/%m/%Y %Z", r"names of time zones \(%Z\)"),
        ("%Y-%m-%d", "does not match format"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused(form, words):
    with pytest.raises(InputError, match=words):
        seconds("01/05/2014", time_format=form)


def test_times_of_day_are_not_times():
    with pytest.raises(InputError, match="of type Time, expected dates"):
        seconds(datetime.time(12))
