"""Files are written whole or not at all, by one process at a time."""

import multiprocessing
import os
import time

import pytest

from recbole_mm.tools.files import (
    Locked,
    locked,
    remove_abandoned,
    scratch_folder,
    whole_or_not,
    write_text,
)

FORK = multiprocessing.get_context("fork")


def in_a_process(function, *arguments) -> FORK.Process:
    process = FORK.Process(target=function, args=arguments)
    process.start()
    return process


def die_while_writing(path):
    with whole_or_not(path) as temporary:
        temporary.write_text("half")
        os._exit(9)


def write_slowly(path, begun):
    with whole_or_not(path) as temporary:
        temporary.write_text("slow")
        begun.set()
        time.sleep(0.3)


def hold(path, begun, ended):
    with locked(path, "busy"):
        begun.set()
        ended.wait(30)


def die_in_a_scratch_folder(parent):
    with scratch_folder(parent, ".make-") as folder:
        (folder / "x").write_text("x")
        os._exit(9)


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
    assert os.listdir(tmp_path) == [".a.txt.tmp"]

    with whole_or_not(path) as temporary:
        assert temporary.read_bytes() == b""
        temporary.write_text("whole")

    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_second_writer_waits_for_the_first(tmp_path):
    path, begun = tmp_path / "a.txt", FORK.Event()
    first = in_a_process(write_slowly, path, begun)
    begun.wait(30)

    write_text(path, "second")

    first.join()
    assert first.exitcode == 0
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_abandoned_files_are_removed_and_those_being_written_are_not(tmp_path):
    in_a_process(die_while_writing, tmp_path / "a-1.pth").join()
    begun = FORK.Event()
    writer = in_a_process(write_slowly, tmp_path / "a-2.pth", begun)
    begun.wait(30)

    remove_abandoned(tmp_path, "a-*.pth")

    assert os.listdir(tmp_path) == [".a-2.pth.tmp"]
    writer.join()
    assert (tmp_path / "a-2.pth").read_text() == "slow"


def test_a_lock_is_held_by_one_process(tmp_path):
    begun, ended = FORK.Event(), FORK.Event()
    holder = in_a_process(hold, tmp_path / "lock", begun, ended)
    begun.wait(30)
    with pytest.raises(Locked, match="busy"), locked(tmp_path / "lock", "busy"):
        pass
    ended.set()
    holder.join()
    with locked(tmp_path / "lock", "busy"):
        pass


def test_a_scratch_folder_of_a_killed_process_is_removed_and_another_is_not(tmp_path):
    in_a_process(die_in_a_scratch_folder, tmp_path).join()
    (left,) = tmp_path.iterdir()

    with scratch_folder(tmp_path, ".make-") as mine:
        assert not left.exists()
        with scratch_folder(tmp_path, ".make-") as other:
            assert mine.is_dir()
            assert other != mine

    assert list(tmp_path.iterdir()) == []
