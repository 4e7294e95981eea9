"""A lock is held by one process, and by none that has ended."""

import errno
import importlib.util
import os
import sys
from types import SimpleNamespace

import pytest
from lock_holders import SPAWN, count_up, die_with_a_lock, hold, in_a_process

from recbole_mm.tools import locks
from recbole_mm.tools.locks import Locked, lock, locked


@pytest.fixture(params=["this system", "Windows"])
def module(request, monkeypatch):
    """The module as it is, and as it is where there is msvcrt instead of fcntl."""
    if request.param == "this system":
        return locks
    fcntl = pytest.importorskip("fcntl")

    def locking(descriptor, mode, size):
        assert (mode, size) == ("LK_NBLCK", 1)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setitem(sys.modules, "fcntl", None)
    fake = SimpleNamespace(locking=locking, LK_NBLCK="LK_NBLCK")
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    spec = importlib.util.spec_from_file_location("locks_on_windows", locks.__file__)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_a_lock_is_held_once(module, tmp_path):
    path = tmp_path / "lock"

    with module.lock(path):
        with pytest.raises(module.Locked, match="busy"):
            module.locked(path, "busy").__enter__()
        with pytest.raises(BlockingIOError, match="another process holds the lock"):
            module.lock(path, seconds=0.1).__enter__()
    with module.locked(path, "busy"):
        pass


def test_nothing_is_left_of_a_lock(module, tmp_path):
    with module.lock(tmp_path / "lock"):
        assert os.listdir(tmp_path) == ["lock"]
    with pytest.raises(KeyError), module.lock(tmp_path / "lock"):
        raise KeyError

    assert os.listdir(tmp_path) == []


def test_a_file_system_without_locks_excludes_nobody(module, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if module.fcntl is None:
        monkeypatch.setattr(module.msvcrt, "locking", fail)
    else:
        monkeypatch.setattr(module.fcntl, "flock", fail)

    with module.lock(tmp_path / "a"), module.lock(tmp_path / "a"):
        pass


def test_a_folder_that_cannot_be_written_to_is_no_lock(module, tmp_path):
    with pytest.raises(FileNotFoundError):
        module.lock(tmp_path / "none" / "lock").__enter__()


def test_a_lock_excludes_another_process(tmp_path):
    begun, ended = SPAWN.Event(), SPAWN.Event()
    holder = in_a_process(hold, tmp_path / "lock", begun, ended)
    begun.wait(300)
    with pytest.raises(Locked, match="busy"), locked(tmp_path / "lock", "busy"):
        pass
    ended.set()
    with lock(tmp_path / "lock", seconds=300):
        holder.join()


def test_a_lock_vanishes_with_its_process(tmp_path):
    in_a_process(die_with_a_lock, tmp_path / "lock").join()
    assert os.listdir(tmp_path) == ["lock"]

    with lock(tmp_path / "lock"):
        pass

    assert os.listdir(tmp_path) == []


def test_processes_that_wait_for_each_other_all_have_their_turn_alone(tmp_path):
    path = tmp_path / "number"
    path.write_text("0", encoding="utf-8")

    for process in [in_a_process(count_up, path, 20) for _ in range(3)]:
        process.join()

    assert path.read_text(encoding="utf-8") == "60"
    assert os.listdir(tmp_path) == ["number"]
