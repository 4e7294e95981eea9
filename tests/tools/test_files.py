"""Files are written whole or not at all, by one process at a time."""

import errno
import os
import sys

import pytest
from lock_holders import (
    SPAWN,
    die_in_a_scratch_folder,
    die_while_writing,
    in_a_process,
    write_slowly,
)

from recbole_mm.tools import files
from recbole_mm.tools.files import (
    move_onto,
    remove_abandoned,
    scratch_folder,
    whole_or_not,
    write_text,
)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_file_is_as_readable_as_any_other_also_if_a_library_writes_a_private_one(tmp_path):
    (tmp_path / "other").write_text("")
    with whole_or_not(tmp_path / "a") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))

    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_private_files_of_a_folder_become_what_the_umask_allows(tmp_path):
    (tmp_path / "model" / "part").mkdir(parents=True)
    private = tmp_path / "model" / "part" / "weights"
    private.touch(mode=0o600)
    (tmp_path / "other").touch()

    files.give_usual_modes(tmp_path / "model")

    assert private.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert [path.name for path in (tmp_path / "model").rglob("*")] == ["part", "weights"]


def test_a_block_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyError), whole_or_not(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_next_writer_takes_what_a_killed_process_has_left(tmp_path):
    path = tmp_path / "a.txt"
    in_a_process(die_while_writing, path).join()
    assert not path.exists()
    assert sorted(os.listdir(tmp_path)) == [".a.txt.lock", ".a.txt.tmp"]

    with whole_or_not(path) as temporary:
        assert temporary.read_bytes() == b""
        temporary.write_text("whole")

    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_second_writer_waits_for_the_first(tmp_path):
    path, begun = tmp_path / "a.txt", SPAWN.Event()
    first = in_a_process(write_slowly, path, begun)
    begun.wait(300)

    write_text(path, "second")

    first.join()
    assert first.exitcode == 0
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_abandoned_files_are_removed_and_those_being_written_are_not(tmp_path):
    in_a_process(die_while_writing, tmp_path / "a-1.pth").join()
    begun = SPAWN.Event()
    writer = in_a_process(write_slowly, tmp_path / "a-2.pth", begun)
    begun.wait(300)

    remove_abandoned(tmp_path, "a-*.pth")

    assert sorted(os.listdir(tmp_path)) == [".a-2.pth.lock", ".a-2.pth.tmp"]
    writer.join()
    assert (tmp_path / "a-2.pth").read_text() == "slow"


def test_a_scratch_folder_of_a_killed_process_is_removed_and_another_is_not(tmp_path):
    in_a_process(die_in_a_scratch_folder, tmp_path).join()
    (left,) = (path for path in tmp_path.iterdir() if path.is_dir())

    with scratch_folder(tmp_path, ".make-") as mine:
        assert not left.exists()
        with scratch_folder(tmp_path, ".make-") as other:
            assert mine.is_dir()
            assert other != mine

    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_process_reads_is_replaced_when_it_has_ended(tmp_path, monkeypatch):
    """As on Windows, which refuses it meanwhile."""
    (tmp_path / "new").write_text("new", encoding="utf-8")
    replace, tries = os.replace, []

    def refuse_twice(source, target):
        tries.append(0)
        if len(tries) < 3:
            raise PermissionError(13, "The process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_twice)
    with pytest.raises(PermissionError):
        move_onto(tmp_path / "new", tmp_path / "old")
    monkeypatch.setattr("sys.platform", "win32")
    move_onto(tmp_path / "new", tmp_path / "old")

    assert (tmp_path / "old").read_text(encoding="utf-8") == "new"
    assert len(tries) == 3


def test_a_file_that_stays_in_use_is_an_error_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(files, "SECONDS_TO_REPLACE", 0)

    def refuse(*_):
        raise PermissionError(13, "The process cannot access the file")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        move_onto(tmp_path / "new", tmp_path / "old")


def test_a_name_of_the_greatest_length_can_be_written(tmp_path):
    path = tmp_path / ("x" * 255)

    write_text(path, "a\nb\n")

    assert path.read_bytes() == b"a\nb\n"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("No space left on device (os error 28)"),  # of polars
    ],
)
def test_the_error_of_a_full_disk_names_the_file(tmp_path, error):
    def fill(path):
        with whole_or_not(path):
            raise error

    with pytest.raises(OSError, match="No space left on device: '.*table'") as raised:
        fill(tmp_path / "table")

    assert raised.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []
