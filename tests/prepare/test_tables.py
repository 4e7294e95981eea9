import datetime

import polars as pl
import pytest

from recbole_mm.prepare import tables
from recbole_mm.prepare.inputs import InputError

HEADER = "user,item,rating,timestamp\n"


def checked(path, **options):
    columns = {"user_id": "user", "item_id": "item", "rating": None, "timestamp": None}
    raw = tables.pick_columns(tables.scan_table(path), columns, path)
    table, bad = tables.check_interactions(raw, path, **options)
    return table.collect(), bad


def frame(pairs, times=None):
    table = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row").with_row_index("row")
    return table if times is None else table.with_columns(timestamp=pl.Series(times))


def core(table, k, repeats="keep", tmp_path=None):
    kept, _ = tables.core_of(table.lazy(), k, k, repeats, tmp_path)
    return kept.select("user_id", "item_id").rows()


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_every_format_reads_alike(tmp_path, ending):
    table = pl.DataFrame({"user": ["1", "01"], "item": ["x", "y"], "timestamp": [5, 6]})
    path = tmp_path / f"a.{ending}"
    write = {"csv": table.write_csv, "parquet": table.write_parquet, "jsonl": table.write_ndjson}
    write.get(ending, lambda path: table.write_csv(path, separator="\t"))(path)

    read, _ = checked(path)

    assert read.rows() == [(0, "1", "x", 5.0), (1, "01", "y", 6.0)]


def test_a_broken_line_of_json_is_named(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"item": "a", "title": "x"}\n\n{"item": "b", "ti')

    with (
        pytest.raises(InputError, match=r"items.jsonl: not a readable table: line 3 is no JSON"),
        tables.reading(path),
    ):
        tables.scan_table(path).collect()


def test_a_line_in_another_encoding_is_named(tmp_path):
    path = tmp_path / "interactions.csv"
    path.write_bytes("user,item\na,x\ncaf\xe9,y\n".encode("latin-1"))

    with (
        pytest.raises(InputError, match=r"interactions.csv: .* line 3 is not in UTF-8 .*save"),
        tables.reading(path),
    ):
        tables.scan_table(path).collect()


def test_another_separator_is_told(tmp_path):
    path = tmp_path / "interactions.csv"
    path.write_text("user;item\na;x\n")

    with pytest.raises(InputError, match=r"the file has \['user;item'\]. Columns are separated by"):
        tables.pick_columns(tables.scan_table(path), {"user_id": "user"}, path)


def test_columns_that_are_empty_throughout_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,,\nu,j,,\n")

    assert checked(tmp_path / "a.csv")[0].columns == ["row", "user_id", "item_id"]


@pytest.mark.parametrize(
    "row, reason",
    [
        ("u,i,5,", "no timestamp"),
        ("u,i,,7", "no rating"),
        ("u,i,five,7", "rating is no number"),
        ("u,i,5,yesterday", "timestamp is no time"),
        ("u,i,5,-3", "timestamp before 1970"),
        ("u,i,5,1400000000000", "timestamp after 2100"),
        (",i,5,7", "no user_id"),
        ("u,,5,7", "no item_id"),
        ("u,NA,5,7", "item_id that RecBole reads as missing"),
    ],
)
def test_bad_rows_are_refused_by_number_or_left_out_and_counted(tmp_path, row, reason):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + f"u1,i1,5,1\n{row}\nu2,i2,4,2\n")

    with pytest.raises(InputError, match=rf"a\.csv.*'{reason}.*row 2: .*--drop-bad-rows"):
        checked(path)

    table, bad = checked(path, drop_bad_rows=True)
    assert table["user_id"].to_list() == ["u1", "u2"]
    assert list(bad.values()) == [1] and next(iter(bad)).startswith(reason)


def test_times_come_in_any_unit_and_as_dates(tmp_path):
    moment = datetime.datetime(2014, 5, 1, 12)
    (tmp_path / "ms.csv").write_text(HEADER + "u,i,1,1398945600000\n")
    (tmp_path / "iso.csv").write_text(HEADER + "u,i,1,2014-05-01T12:00:00\n")
    (tmp_path / "utc.csv").write_text(HEADER + "u,i,1,2014-05-01T12:00:00Z\n")
    (tmp_path / "zone.csv").write_text(HEADER + "u,i,1,2014-05-01T14:00:00+02:00\n")
    pl.DataFrame({"user": ["u"], "item": ["i"], "timestamp": [moment]}).write_parquet("a.parquet")

    seconds = [
        checked(tmp_path / "ms.csv", time_unit="ms")[0]["timestamp"].item(),
        checked(tmp_path / "iso.csv")[0]["timestamp"].item(),
        checked(tmp_path / "utc.csv")[0]["timestamp"].item(),
        checked(tmp_path / "zone.csv")[0]["timestamp"].item(),
        checked("a.parquet")[0]["timestamp"].item(),
    ]

    assert seconds == [1398945600.0] * 5


def test_a_column_that_is_not_there_names_those_that_are(tmp_path):
    (tmp_path / "a.csv").write_text("who,what\nu,i\n")

    with pytest.raises(InputError, match=r"no column \['user', 'item'\].*\['who', 'what'\]"):
        checked(tmp_path / "a.csv")


def test_no_rows_and_no_file_are_errors(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    with pytest.raises(InputError, match="no interactions"):
        checked(tmp_path / "a.csv")
    with pytest.raises(InputError, match="no such file"):
        checked(tmp_path / "b.csv")
    with pytest.raises(InputError, match="'.xlsx' is unknown"):
        (tmp_path / "c.xlsx").write_text("")
        checked(tmp_path / "c.xlsx")


def brute_force_core(pairs, k):
    while True:
        users, items = [[pair[side] for pair in pairs] for side in (0, 1)]
        kept = [(u, i) for u, i in pairs if users.count(u) >= k and items.count(i) >= k]
        if kept == pairs:
            return sorted(kept)
        pairs = kept


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("on_disk", [False, True])
def test_the_core_is_its_definition(tmp_path, monkeypatch, k, on_disk):
    if on_disk:
        monkeypatch.setattr(tables, "EAGER_ROWS", 5)
    pairs = [(f"u{n * n % 13}", f"i{n * 7 % 11}") for n in range(60)]

    assert sorted(core(frame(pairs), k, tmp_path=tmp_path)) == brute_force_core(pairs, k)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "repeats, times", [("keep", [1, 2, 3]), ("first", [1, 3]), ("last", [2, 3])]
)
def test_repeats_are_kept_or_the_first_or_last_in_time(tmp_path, repeats, times):
    table = frame([("u", "a"), ("u", "b"), ("u", "a")], times=[2.0, 3.0, 1.0])

    kept, dropped = tables.core_of(table.lazy(), 0, 0, repeats, tmp_path)

    assert dropped == 3 - len(times)
    assert kept["timestamp"].to_list() == times


def test_repeats_do_not_count_for_the_core(tmp_path):
    pairs = [("u", "a"), ("u", "a"), ("v", "b"), ("v", "c"), ("w", "b"), ("w", "c")]

    assert core(frame(pairs), 2, "first", tmp_path) == [
        ("v", "b"),
        ("v", "c"),
        ("w", "b"),
        ("w", "c"),
    ]


def test_same_time_events_stay_in_the_order_of_the_file(tmp_path):
    table = frame([("u", "b"), ("u", "a"), ("u", "c")], times=[5.0, 5.0, 1.0])

    assert core(table, 0, tmp_path=tmp_path) == [("u", "c"), ("u", "b"), ("u", "a")]
