"""The mark of a data set that is being made: one process at a time, and what an interruption left.

The mark is the file ``<root>/.<name>.unfinished``. It is empty while nothing of the data set has been
touched; then it holds what the data set is made from, so that the next run knows whether it resumes.
"""

import fcntl
import json
from pathlib import Path

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.json_text import parse_json

WRITTEN = "tables written"


class BeingMade(UserError):
    """A data set that another process is making."""


def mark_of(root, name: str) -> Path:
    return Path(root) / f".{name}.unfinished"


def command_to_resume(root, name: str) -> str | None:
    """The command that finishes a data set whose making was interrupted; ``None`` if none was."""
    try:
        first = mark_of(root, name).read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return None
    try:
        return parse_json(first)["command"] if first else None
    except (ValueError, KeyError, TypeError):
        return f"recbole-mm amazon {name} --download --pictures"


class Making:
    """A context in which a data set is made.

    Args:
        root: folder of the data sets.
        name: of the data set.
        recipe: what it is made from and how, JSON-able.
        command: finishes it after an interruption.

    Attributes:
        tables_written: whether an interrupted run with the same recipe has written the tables.

    Raises:
        BeingMade: another process is making it.
    """

    def __init__(self, root, name: str, recipe: dict, command: str):
        self.path = mark_of(root, name)
        self.recipe, self.command = recipe, command

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise BeingMade(
                f"{self.path}: another process is making this data set; wait until it has finished"
            ) from error
        self._file.seek(0)
        lines = self._file.read().splitlines()
        self.is_begun = bool(lines)
        self.tables_written = lines[-2:] == [self._first_line(), WRITTEN]
        return self

    def begin(self) -> None:
        """From now on the data set is unfinished."""
        self._append(self._first_line())

    def tables_are_written(self) -> None:
        """Only the features are missing."""
        self._append(WRITTEN)

    def finish(self) -> None:
        """The data set is complete."""
        self.path.unlink()
        self.is_begun = True

    def __exit__(self, *_) -> None:
        if not self.is_begun:
            self.path.unlink()
        self._file.close()

    def _first_line(self) -> str:
        return json.dumps({"command": self.command, "recipe": self.recipe}, sort_keys=True)

    def _append(self, line: str) -> None:
        self.is_begun = True
        self._file.write(f"{line}\n")
        self._file.flush()
