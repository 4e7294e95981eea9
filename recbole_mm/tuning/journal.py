"""The file of a search: Optuna's journal, in which every line has a seal, so that damage is noticed.

Optuna's own tools (its dashboard, ``optuna studies``) can read it too.
"""

import shutil
from itertools import takewhile
from logging import getLogger
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.records import sealed, unsealed


def open_journal(path: Path) -> JournalStorage:
    """Open or create the journal; the caller holds the lock of its folder.

    Everything after damage is dropped, and its trials are run again; the damaged file is kept as
    ``NAME.damaged``. An incomplete last line of a killed process is dropped too.
    """
    _drop_damage(path)
    return JournalStorage(SealedJournal(str(path), lock_obj=_HeldLock(str(path))))


class SealedJournal(JournalFileBackend):
    """Optuna's file, with a seal in every line."""

    def append_logs(self, logs: list[dict]) -> None:
        super().append_logs([sealed(log) for log in logs])


class _HeldLock(JournalFileOpenLock):
    """Does nothing: only one process writes, and it holds the lock of the folder.

    Optuna's locks would outlive a process that is killed.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """Nothing to release."""


def _drop_damage(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    sound = list(takewhile(_is_sound, lines))
    if len(sound) == len(lines):
        return
    if len(sound) < len(lines) - 1 or lines[-1].endswith(b"\n"):
        kept = path.with_name(f"{path.name}.damaged")
        shutil.copyfile(path, kept)
        getLogger().warning(
            f"{path}: line {len(sound) + 1} is damaged; trials that are recorded from there on are run "
            f"again, and the damaged file is kept as {kept.name}"
        )
    with whole_or_not(path) as temporary:
        temporary.write_bytes(b"".join(sound))


def _is_sound(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(unsealed(line.decode()), dict)
    except ValueError:
        return False
