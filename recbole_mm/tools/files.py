"""Files that are written atomically: as a whole, or not at all."""

import contextlib
import json
import os
import tempfile
from logging import getLogger
from pathlib import Path

from recbole_mm.tools.errors import UserError


@contextlib.contextmanager
def whole_or_not(path):
    """A temporary name beside ``path``, moved onto it when the block ends well, removed if not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
