"""Files that are written atomically (as a whole or not at all), by one process at a time."""

import contextlib
import glob
import json
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from logging import getLogger
from math import inf
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.file_names import hidden_beside
from recbole_mm.tools.locks import lock

UNFINISHED, LOCK = ".tmp", ".lock"
SECONDS_TO_REPLACE = 10.0


@contextlib.contextmanager
def whole_or_not(path):
    """A temporary file next to ``path`` that replaces it if the block succeeds and is removed if
    not.

    The file exists and is empty. Its name is always the same, so that the next writer reuses the
    file of a killed process; a process waits while another one writes. The result has the
    permissions of the user's umask, even if a library replaces the file by a private one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = hidden_beside(path, UNFINISHED)
    with lock(hidden_beside(path, LOCK), seconds=inf):
        try:
            with naming(path):
                temporary.write_bytes(b"")
                mode = stat.S_IMODE(temporary.stat().st_mode)
                yield temporary
                temporary.chmod(mode)
                move_onto(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path):
    """Context in which a file is written: an error of the system names it, also that of a full disk,
    which names none by itself."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is None:
            error.errno = system_error_in(str(error))  # of polars
            error.strerror = os.strerror(error.errno) if error.errno else None
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


def system_error_in(message: str) -> int | None:
    """The number of the system's error in a message of a library in Rust, such as polars."""
    found = re.search(r"\(os error (\d+)\)", message)
    return int(found[1]) if found else None


def give_usual_modes(folder) -> None:
    """Give the files of a folder the permissions of the user's umask, if a library has written
    private ones."""
    probe = Path(folder, f".mode{UNFINISHED}")
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in Path(folder).rglob("*"):
        if path.is_file():
            path.chmod(mode)


def move_onto(source, target) -> None:
    """Rename a file, replacing the target if it exists.

    Windows refuses this while a process reads the target, so it is retried for some seconds there.
    """
    end = time.monotonic() + SECONDS_TO_REPLACE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if time.monotonic() > end or not _is_windows():
                raise
        time.sleep(0.05)


def _is_windows() -> bool:
    return sys.platform == "win32"


def remove_abandoned(folder, name: str) -> None:
    """Remove temporary files of :func:`whole_or_not` that killed processes left behind.

    Args:
        folder: its path.
        name: glob pattern of the files that they were writing.
    """
    for ending in (UNFINISHED, LOCK):
        for left in Path(folder).glob(f".{name}{ending}"):
            with contextlib.suppress(OSError), lock(left.with_suffix(LOCK)):
                left.with_suffix(UNFINISHED).unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(parent, prefix: str):
    """A temporary folder for the block; folders that killed processes left behind are removed.

    Args:
        parent: folder that contains it.
        prefix: start of its name; with a dot if it should be hidden.
    """
    for left in Path(parent).glob(f"{glob.escape(prefix)}*"):
        abandoned = left.with_name(left.name.removesuffix(LOCK))
        with contextlib.suppress(OSError), lock(f"{abandoned}{LOCK}"):
            shutil.rmtree(abandoned, ignore_errors=True)
    folder = Path(parent, f"{prefix}{secrets.token_hex(4)}")
    with lock(f"{folder}{LOCK}"):
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def write_text(path, text: str) -> None:
    with whole_or_not(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path, value) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def set_aside(path, reason) -> None:
    """Rename one of our damaged files to ``<name>.damaged``, so that its work is done again.

    Args:
        path: path of the file; several processes may call this at once.
        reason: description of the damage.
    """
    path = Path(path)
    aside = path.with_name(f"{path.name}.damaged")
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
        getLogger().warning(
            f"{path}: damaged ({reason}); renamed to {aside.name}, and the work is done again"
        )


def require_writable(folder, fix: str) -> None:
    """Create a folder if needed and check that it can be written to.

    Args:
        folder: its path.
        fix: advice for the message.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"cannot write to the folder {str(Path(folder).absolute())!r}: {error.strerror}. {fix}"
        ) from None


def refuse_input_as_output(output, inputs: Mapping, option: str = "--output=") -> None:
    """Refuse an output file that is one of the inputs, by whatever spelling or link.

    Args:
        output: path of the output.
        inputs: option that names an input -> its path, or ``None``.
        option: words before the output in the message.

    Raises:
        UserError: the output is an input.
    """
    for name, path in inputs.items():
        both_exist = path is not None and os.path.exists(path) and os.path.exists(output)
        if both_exist and os.path.samefile(path, output):
            raise UserError(
                f"{option}{output} is the same file as {name}={path}, which would be overwritten; "
                f"give another output"
            )


@contextlib.contextmanager
def kept_if_filled(folder: Path):
    """Create a folder for the block; if the block fails, a new folder that is still empty is
    removed."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with contextlib.suppress(OSError):  # something is in it
                folder.rmdir()
        raise
