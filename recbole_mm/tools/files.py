"""Files that are written atomically, as a whole or not at all, by one process at a time."""

import contextlib
import fcntl
import glob
import json
import os
import shutil
import tempfile
from logging import getLogger
from pathlib import Path
from typing import IO

from recbole_mm.tools.errors import UserError


class Locked(UserError):
    """Another process holds the lock."""


@contextlib.contextmanager
def whole_or_not(path):
    """A temporary file beside ``path``, moved onto it when the block ends well, removed if not.

    The block writes into the file, which exists, and does not put another one in its place. Its
    name is always the same, so that the next writer takes what a killed process has left; a
    process waits while another one writes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with _only_writer(temporary):
        try:
            yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _only_writer(path: Path) -> IO:
    """The file, empty, open and locked."""
    while True:
        file = open(path, "ab")  # noqa: SIM115 the caller closes it
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                return file
        file.close()  # the writer that was waited for has moved it


def remove_abandoned(folder, name: str) -> None:
    """Remove what killed processes have left of :func:`whole_or_not`.

    Args:
        folder: its path.
        name: glob pattern of the files that they wrote.
    """
    for left in Path(folder).glob(f".{name}.tmp"):
        with contextlib.suppress(OSError), open(left, "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


@contextlib.contextmanager
def locked(path, refusal: str):
    """Hold a lock file while the block runs, or as long as a process lives that inherits it.

    Args:
        path: of the file, which stays.
        refusal: the message if another process holds it.

    Yields:
        the open file.

    Raises:
        Locked: another process holds it.
    """
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(refusal) from None
        yield file


@contextlib.contextmanager
def scratch_folder(parent, prefix: str):
    """A folder for the time of the block; those that killed processes left there are removed.

    Args:
        parent: folder that it is made in.
        prefix: how its name starts; hidden, with a dot.
    """
    for left in Path(parent).glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(OSError), _folder_lock(left):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder, _folder_lock(folder):
        yield Path(folder)


@contextlib.contextmanager
def _folder_lock(folder):
    """Raises OSError if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def write_text(path, text: str) -> None:
    with whole_or_not(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def set_aside(path, reason) -> None:
    """Rename a damaged record of ours to ``<name>.damaged``, so that its work is done again.

    Args:
        path: of the record; several processes may call this at once.
        reason: what is wrong with it.
    """
    path = Path(path)
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
        getLogger().warning(
            f"{path}: damaged ({reason}); renamed to {aside.name}, and the work is done again"
        )


def require_writable(folder, fix: str) -> None:
    """Create the folder and write to it once.

    Args:
        folder: its path.
        fix: what to do if that fails.

    Raises:
        UserError: it cannot be done.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {str(Path(folder).absolute())!r}: {error.strerror}. {fix}"
        ) from None
