from pathlib import Path

import polars as pl
import pytest

from recbole_mm.prepare import core as cores


def frame(pairs, times=None):
    table = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row").with_row_index("row")
    return table if times is None else table.with_columns(timestamp=pl.Series(times))


def core(table, k, repeats="keep", tmp_path=None):
    kept, _ = cores.core_of(table.lazy(), k, k, repeats, tmp_path)
    return kept.select("user_id", "item_id").rows()


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
        monkeypatch.setattr(cores, "EAGER_ROWS", 5)
    pairs = [(f"u{n * n % 13}", f"i{n * 7 % 11}") for n in range(60)]

    assert sorted(core(frame(pairs), k, tmp_path=tmp_path)) == brute_force_core(pairs, k)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "repeats, times", [("keep", [1, 2, 3]), ("first", [1, 3]), ("last", [2, 3])]
)
def test_repeats_are_kept_or_the_first_or_last_in_time(tmp_path, repeats, times):
    table = frame([("u", "a"), ("u", "b"), ("u", "a")], times=[2.0, 3.0, 1.0])

    kept, dropped = cores.core_of(table.lazy(), 0, 0, repeats, tmp_path)

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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_not_taken_for_a_damaged_table(tmp_path):
    (tmp_path / "table.parquet").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device: '.*table.parquet'"):
        cores.on_disk(pl.LazyFrame({"a": [1]}), tmp_path / "table.parquet")
