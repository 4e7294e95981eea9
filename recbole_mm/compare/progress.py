"""The progress of a run in another process, in one line."""

import json
from pathlib import Path

from recbole_mm.compare.worker import EPOCHS, PLAN
from recbole_mm.run.progress import describe


class Progress:
    """The progress of one run.

    Args:
        folder: folder of a run that another process trains.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._shown = 0

    def line(self) -> str | None:
        """Epoch, scores and time left; ``None`` if nothing was validated since the last line."""
        try:
            history = json.loads((self.folder / EPOCHS).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no epoch has been validated yet
            return None
        if len(history) <= self._shown:
            return None
        self._shown = len(history)
        config = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))["config"]
        return describe(history, config)
