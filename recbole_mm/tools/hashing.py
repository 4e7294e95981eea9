"""SHA-256 of files, of folders, and of texts and bytes, as hexadecimal digits."""

import hashlib
import time
from collections.abc import Iterable
from pathlib import Path

BLOCK = 1 << 20
SETTLED = 2_000_000_000  # nanoseconds, more than the resolution of file times on any file system

_known: dict[tuple[int, ...], str] = {}


def sha256_of_file(path) -> str:
    """SHA-256 of a file's content.

    The hash is cached until the file's inode, size or times change. A file that was just written is
    hashed every time, since another write might not change its times.
    """
    path = Path(path)
    status = path.stat()
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if state in _known:
        return _known[state]
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            hashed.update(block)
    if time.time_ns() - changed > SETTLED:
        _known[state] = hashed.hexdigest()
    return hashed.hexdigest()


def sha256_of_tree(folder, pattern: str) -> str:
    """SHA-256 of the names and contents of all files in a folder tree that match ``pattern``."""
    folder = Path(folder)
    hashed = hashlib.sha256()
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob(pattern)}
    for name in sorted(paths):
        hashed.update(f"{name}\0".encode() + paths[name].read_bytes())
    return hashed.hexdigest()


def sha256_of_parts(parts: Iterable[str | bytes | memoryview]) -> str:
    """SHA-256 of the concatenation of texts (in UTF-8) and bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part.encode() if isinstance(part, str) else part)
    return hashed.hexdigest()
