"""Tables that are kept on disk and in memory."""

import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from recbole_mm.config.keys import keys_of_model
from recbole_mm.config.load import load_config
from recbole_mm.data import kept_tables, reading
from recbole_mm.data.atomic_files import AtomicFile, Column
from recbole_mm.data.coded import CodedTable, CodedTexts
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.kept_tables import Source, cache_folder, kept_table, tables_in_memory
from recbole_mm.tools.files import UNFINISHED

ROWS = [("u", "ä", 1), ("u", "b", 2), ("", "b", 3), ("v", "ä", 4), ("v", "c", 5), ("w", "b", 6)]
HEADER = "user_id:token\titem_id:token\ttimestamp:float"


@pytest.fixture(autouse=True)
def _slow(monkeypatch):
    """Every file takes long enough to read."""
    monkeypatch.setattr(kept_tables, "SLOW", -1)


@pytest.fixture
def source(tmp_path):
    return Source(str(write(tmp_path)), "\t", "utf-8")


def write(folder, rows=ROWS, separator="\t", encoding="utf-8"):
    path = folder / "x" / "x.inter"
    path.parent.mkdir(exist_ok=True)
    lines = [HEADER, *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines).replace("\t", separator) + "\n", encoding=encoding)
    return path


def load(tmp_path, **settings):
    given = {"data_path": str(tmp_path), "modalities": [], "data_cache": str(tmp_path / "kept")}
    return MultiModalDataset(load_config("SASRec", "x", (), given | settings))


def table(n=3):
    texts = [f"text {row}" for row in range(n)]
    values = {"a": CodedTexts(np.arange(n, dtype=np.int32), texts), "b": np.arange(n) / 2}
    return CodedTable([Column("a", "token"), Column("b", "float")], values)


def assert_equal(found, expected):
    assert found.header == expected.header and list(found.values) == list(expected.values)
    for name, values in expected.values.items():
        if isinstance(values, CodedTexts):
            assert found.values[name].codes.tolist() == values.codes.tolist()
            assert found.values[name].texts == values.texts
        else:
            assert found.values[name].tolist() == values.tolist()


def refuse(*_, **__):
    raise AssertionError("the file is parsed")


def kept_files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_data_set_that_was_read_once_is_opened_without_parsing_it(tmp_path, monkeypatch):
    write(tmp_path)
    first = load(tmp_path)
    monkeypatch.setattr(reading, "AtomicFile", refuse)

    again = load(tmp_path)

    pd.testing.assert_frame_equal(again.inter_feat, first.inter_feat)
    assert again.field2id_token["item_id"].tolist() == ["[PAD]", "ä", "b", "c"]
    assert [again.field2type, again.field2seqlen] == [first.field2type, first.field2seqlen]
    assert kept_files(tmp_path / "x") == ["x.inter"], "nothing is written beside the data"
    assert len(kept_files(tmp_path / "kept")) == 1


def test_a_file_that_is_read_at_once_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_tables, "SLOW", 60)
    write(tmp_path)

    load(tmp_path)

    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("setting", ["none", None])
def test_nothing_is_kept_if_that_is_switched_off(tmp_path, monkeypatch, setting):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(tmp_path)

    load(tmp_path, data_cache=setting)

    assert kept_files(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("changed", "settings"),
    [
        ({"rows": [*ROWS[:-1], ("w", "c", 6)]}, {}),
        ({"separator": "|"}, {"field_separator": "|"}),
        ({"encoding": "latin-1"}, {"encoding": "latin-1"}),
        ({}, {"load_col": None}),
        ({}, {"load_col": {"inter": ["user_id", "item_id"]}}),
        ({}, {"load_col": None, "unload_col": {"inter": ["timestamp"]}}),
    ],
)
def test_whatever_a_table_depends_on_makes_another_one(tmp_path, changed, settings):
    path = write(tmp_path)
    load(tmp_path)
    status = path.stat()
    write(tmp_path, **changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    found = load(tmp_path, **settings)

    expected = load(tmp_path, data_cache=None, **settings)
    pd.testing.assert_frame_equal(found.inter_feat, expected.inter_feat)
    assert len(kept_files(tmp_path / "kept")) == 2


def test_filters_and_missing_values_leave_the_kept_table_as_it_is(tmp_path):
    write(tmp_path)
    (tmp_path / "x" / "x.item").write_text("item_id:token\tprice:float\nb\t\nä\t1\nc\t5\n")
    settings = {"load_col": None, "normalize_all": True, "user_inter_num_interval": "[2,inf)"}
    with tables_in_memory():
        first, again = load(tmp_path, **settings), load(tmp_path, **settings)

    pd.testing.assert_frame_equal(first.item_feat, again.item_feat)
    pd.testing.assert_frame_equal(first.inter_feat, again.inter_feat)
    pd.testing.assert_frame_equal(load(tmp_path, **settings).item_feat, first.item_feat)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-40])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[data.index(b"text 1")] ^= 1
    path.write_bytes(data)


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **arrays | changes)


def exceed_the_texts(path):
    rewrite(path, **{"0.codes": np.array([0, 1, 3], dtype=np.int32)})


def shorten_a_column(path):
    rewrite(path, **{"1.numbers": np.zeros(2)})


def change_a_type(path):
    rewrite(path, **{"0.codes": np.array([0.0, 1.0, 2.0])})


def lose_a_column(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("about.npy", b"")


DAMAGE = [
    truncate,
    empty,
    flip_a_bit,
    exceed_the_texts,
    shorten_a_column,
    change_a_type,
    lose_a_column,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_set_aside_and_made_again(tmp_path, source, damage, caplog):
    folder = tmp_path / "kept"
    kept_table(source, folder, table)
    (place,) = folder.iterdir()
    damage(place)

    found = kept_table(source, folder, table)

    assert_equal(found, table())
    assert kept_files(folder) == [place.name, f"{place.name}.damaged"]
    assert_equal(kept_table(source, folder, refuse), table())
    assert f"{place}: damaged" in caplog.text


def test_the_table_of_another_file_is_not_taken_for_this_one(tmp_path, source):
    folder = tmp_path / "kept"
    kept_table(source, folder, table)
    (place,) = folder.iterdir()
    other = source._replace(separator="|")
    place.rename(kept_tables._place(folder, other, other.key()))

    assert_equal(kept_table(other, folder, lambda: table(5)), table(5))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
def test_a_full_disk_costs_nothing_but_time(tmp_path, source, caplog):
    import resource

    folder, limits = tmp_path / "kept", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        found = kept_table(source, folder, lambda: table(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert_equal(found, table(10_000))
    assert kept_files(folder) == []
    assert "cannot be kept" in caplog.text and "data_cache" in caplog.text


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path, source, caplog):
    (tmp_path / "file").write_text("")

    assert_equal(kept_table(source, tmp_path / "file" / "kept", table), table())
    assert "cannot be kept" in caplog.text


def test_a_half_written_table_is_not_opened_and_is_cleared_away(tmp_path, source):
    folder = tmp_path / "kept"
    kept_table(source, folder, table)
    (place,) = folder.iterdir()
    left = place.with_name(f".{place.name}.tmp")
    left.write_bytes(place.read_bytes()[:100])
    place.unlink()

    assert_equal(kept_table(source, folder, lambda: table(4)), table(4))
    assert kept_files(folder) == [place.name]


def test_writers_of_the_same_table_at_once_leave_it_whole(tmp_path, source):
    """Threads exclude one another by the same locks as processes."""
    folder = tmp_path / "kept"
    place = kept_tables._place(folder, source, source.key())

    def keep():
        for _ in range(20):
            kept_tables._keep(place, source.key(), table(2000), source, 1.0)

    with ThreadPoolExecutor(2) as pool:
        writing = [pool.submit(keep) for _ in range(2)]
        while not all(future.done() for future in writing):
            if place.is_file():
                assert_equal(kept_table(source, folder, refuse), table(2000))
        for future in writing:
            future.result()

    assert kept_files(folder) == [place.name]


def test_a_file_that_changes_while_it_is_read_is_not_kept(tmp_path, source):
    def read():
        write(tmp_path, rows=ROWS[:3])
        return table()

    kept_table(source, tmp_path / "kept", read)

    assert not (tmp_path / "kept").exists()


def test_tables_that_were_not_opened_for_longest_are_removed(tmp_path, source, monkeypatch):
    monkeypatch.setattr(kept_tables, "MOST_KEPT", 2)
    folder, sources = tmp_path / "kept", [source._replace(separator=s) for s in "\t|;"]
    for age, given in zip((300, 200), sources, strict=False):
        kept_table(given, folder, table)
        os.utime(kept_tables._place(folder, given, given.key()), (age, age))
    kept_table(sources[0], folder, refuse)

    kept_table(sources[2], folder, table)

    kept = [kept_tables._place(folder, s, s.key()).name for s in (sources[0], sources[2])]
    assert kept_files(folder) == sorted(kept)


def test_files_of_others_in_the_folder_stay(tmp_path, monkeypatch, source):
    monkeypatch.setattr(kept_tables, "MOST_KEPT", 0)
    folder = tmp_path / "features"
    folder.mkdir()
    others = {"Shop.text.npz", "Shop.inter-2024.npz", f".Shop.image.npz{UNFINISHED}"}
    for name in others:
        (folder / name).touch()

    kept_table(source, folder, table)

    assert {path.name for path in folder.iterdir()} == others


def test_in_memory_no_file_is_parsed_twice_and_it_is_forgotten_afterwards(source):
    parsed = []

    def read():
        parsed.append(1)
        return table()

    with tables_in_memory():
        kept_table(source, None, read)
        with tables_in_memory():
            assert_equal(kept_table(source, None, read), table())
        kept_table(source, None, read)
    assert len(parsed) == 1
    kept_table(source, None, read)
    assert len(parsed) == 2


def test_a_file_that_does_not_exist_is_refused_by_who_reads_it(tmp_path):
    gone = Source(str(tmp_path / "gone.inter"), "\t", "utf-8")

    with pytest.raises(ValueError, match="gone.inter: cannot be read"):
        kept_table(gone, tmp_path, lambda: AtomicFile(gone.path).table())


def test_the_folder_is_the_users_cache_or_the_one_that_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert cache_folder("auto") == tmp_path / "recbole_mm" / "tables"
    assert cache_folder(str(tmp_path / "own")) == tmp_path / "own"
    assert cache_folder("none") is None and cache_folder(None) is None


def test_a_stored_configuration_does_not_name_the_folder():
    assert keys_of_model("MMM4Rec", ["data_cache", "learning_rate"]) == ["learning_rate"]
