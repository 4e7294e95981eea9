"""The mark of a data set that is being made: one process at a time, and what an interruption left.

The mark is the file ``<root>/.<name>.unfinished``. From the first change of the data set on, it
holds what the data set is made from, so that the next run knows whether it resumes, and nothing
trains on a part. Until the data set is complete, its earlier files are kept next to it
(:mod:`recbole_mm.prepare.earlier`).
"""

import contextlib
import json
from pathlib import Path

from recbole_mm.prepare.earlier import EarlierFiles
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import write_text
from recbole_mm.tools.json_files import fits
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.locks import lock
from recbole_mm.tools.text_files import read_text

WRITTEN = "tables written"


class BeingMade(UserError):
    """A data set that another process is making."""


def refuse_other_case(root: Path, name: str) -> None:
    """Refuse the name of a data set that differs from another one only in the case of its letters.

    On Windows and macOS both would be the same folder.

    Raises:
        UserError: there is such a data set; the message names it.
    """
    for folder in root.iterdir():
        if folder.name != name and folder.name.casefold() == name.casefold():
            raise UserError(
                f"{name}: the data set {folder.name} in {root} differs only in upper and lower case, "
                f"and is the same folder on some systems: use that name, or another one"
            )


def mark_of(root, name: str) -> Path:
    return Path(root) / f".{name}.unfinished"


def command_to_resume(root, name: str) -> str | None:
    """The command that finishes an interrupted data set; ``None`` if it was not interrupted."""
    mark = mark_of(root, name)
    if not mark.is_file() or mark.stat().st_size == 0:
        return None
    with contextlib.suppress(ValueError):
        begun = parse_json(read_text(mark).partition("\n")[0])
        if fits(begun, dict) and fits(begun.get("command"), str):
            return begun["command"]
    return f"the command that created {name!r}"


@contextlib.contextmanager
def made_whole(root, name: str, command: str):
    """Context in which a data set is written, as a whole or not at all.

    If the block fails, the data set is the earlier one again, or does not exist if there was none.
    If the process is killed or interrupted, or the disk does not even allow that, it is marked as
    unfinished.

    Args:
        root: folder of the data sets.
        name: name of the data set.
        command: command that creates it.

    Raises:
        BeingMade: another process is making it.
    """
    with Making(root, name, {}, command) as making:
        making.begin()
        try:
            yield
        except Exception:
            with contextlib.suppress(OSError):  # marked as unfinished
                making.undo()
            raise
        making.finish()


class Making:
    """A context in which a data set is made.

    Args:
        root: folder of the data sets.
        name: name of the data set.
        recipe: what it is made from and how, JSON-able.
        command: command that finishes it after an interruption.

    Attributes:
        tables_written: whether an interrupted run with the same recipe has written the tables.

    Raises:
        BeingMade: another process is making it.
    """

    def __init__(self, root, name: str, recipe: dict, command: str):
        self.path, self.name = mark_of(root, name), name
        self.recipe, self.command = recipe, command
        self.earlier = EarlierFiles(root, name)
        self._lock = contextlib.ExitStack()

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        refuse_other_case(self.path.parent, self.name)
        try:
            self._lock.enter_context(lock(f"{self.path}.lock"))
        except BlockingIOError as error:
            raise BeingMade(
                f"{self.path}: another process is making this data set; wait until it has finished"
            ) from error
        lines = self._lines()
        self.is_begun = bool(lines)
        self.tables_written = lines[-2:] == [self._first_line(), WRITTEN]
        return self

    def begin(self) -> None:
        """Keep the files of the data set, and mark it as unfinished from now on."""
        if not self.is_begun:
            self.earlier.forget()  # of a command that was killed before it made its mark
        self.earlier.keep()
        self._append(self._first_line())

    def tables_are_written(self) -> None:
        """Record that only the features are missing."""
        self._append(WRITTEN)

    def finish(self) -> None:
        """Remove the mark: the data set is complete.

        Earlier features of other items that have not been made again are renamed, and reported.
        """
        for path, aside in self.earlier.set_lost_features_aside():
            print(
                f"{path}: created for other items than {path.parent / self.name}.item now has, "
                f"renamed to {aside.name}; extract it again, or rename it back if its vectors still fit"
            )
        self.earlier.forget()
        self.path.unlink()

    def undo(self) -> None:
        """Put the earlier files back, and remove the mark."""
        self.earlier.put_back()
        self.path.unlink()

    def __exit__(self, *_) -> None:
        if not self.is_begun:
            self.earlier.forget()
            self.path.unlink(missing_ok=True)
        self._lock.close()

    def _first_line(self) -> str:
        return json.dumps({"command": self.command, "recipe": self.recipe}, sort_keys=True)

    def _lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        return self.path.read_text(encoding="utf-8", errors="replace").splitlines()

    def _append(self, line: str) -> None:
        write_text(self.path, "".join(f"{each}\n" for each in (*self._lines(), line)))
        self.is_begun = True
