"""Lock files, which exclude other processes and vanish with the process that holds them.

The system releases a lock when its process ends, no matter how. Only this module uses the system's
own locks: ``flock`` on POSIX, ``locking`` on Windows.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from recbole_mm.tools.errors import UserError

fcntl: Any
msvcrt: Any
try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None
    import msvcrt

SECONDS_BETWEEN_TRIES = 0.05
HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.EWOULDBLOCK}
"""Error numbers if another process holds a lock; with other errors, the file system has no
locks."""


class Locked(UserError):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path, refusal: str) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: path of the file.
        refusal: message if another process holds it.

    Raises:
        Locked: another process holds it.
    """
    try:
        file = _acquire(Path(path), seconds=0)
    except BlockingIOError:
        raise Locked(refusal) from None
    with _held(Path(path), file):
        yield


@contextlib.contextmanager
def lock(path, seconds: float = 0) -> Iterator[None]:
    """Hold a lock file while the block runs.

    Args:
        path: path of the file, which is created, and removed at the end.
        seconds: maximum wait for another process; ``inf``: until it releases the lock.

    Raises:
        BlockingIOError: another process holds it.
    """
    with _held(Path(path), _acquire(Path(path), seconds)):
        yield


@contextlib.contextmanager
def _held(path: Path, file: IO[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        if fcntl is not None:
            path.unlink(missing_ok=True)  # while it is locked: a waiting process notices
        file.close()
        if fcntl is None:
            with contextlib.suppress(OSError):  # another process has it open
                path.unlink()


def _acquire(path: Path, seconds: float) -> IO[bytes]:
    end = time.monotonic() + seconds
    while True:
        file = _open(path)
        if file is not None:
            if _is_locked_by_us(file) and _is_at(file, path):
                return file
            file.close()
        if time.monotonic() >= end:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock", str(path))
        time.sleep(SECONDS_BETWEEN_TRIES)


def _open(path: Path) -> IO[bytes] | None:
    try:
        return open(path, "ab")
    except PermissionError:
        if fcntl is None and path.parent.is_dir():
            return None  # Windows is about to remove it
        raise


def _is_locked_by_us(file: IO[bytes]) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return error.errno not in HELD
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the path still refers to the open file, which its last holder may have removed."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
