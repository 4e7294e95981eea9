"""What a run that goes on has reached, in a line."""

import json
from pathlib import Path

from recbole_mm.compare.worker import EPOCHS, PLAN

SECONDS_BETWEEN_LINES = 30


class Progress:
    """How far one run is.

    Args:
        folder: of a run that another process trains.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._shown = 0

    def line(self) -> str | None:
        """Epoch, scores and time left; ``None`` where nothing was validated since the last line."""
        try:
            history = json.loads((self.folder / EPOCHS).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no epoch is validated yet
            return None
        if len(history) <= self._shown:
            return None
        self._shown = len(history)
        config = json.loads((self.folder / PLAN).read_text(encoding="utf-8"))["config"]
        return describe(history, config["epochs"], config["valid_metric"])


def describe(history: list[dict], epochs: int, metric: str) -> str:
    """The line.

    Args:
        history: validated epochs, see :class:`~recbole_mm.training.recorded.RecordedTraining`.
        epochs: how many are trained at most.
        metric: what they are validated by; larger is better.
    """
    latest = history[-1]
    done = latest["epoch"] + 1
    best = max(history, key=lambda entry: entry["valid_score"])
    left = latest["seconds"] / done * (epochs - done) / 60
    return (
        f"epoch {done} of at most {epochs}, validation {metric} {latest['valid_score']:.4f} (best "
        f"{best['valid_score']:.4f} in epoch {best['epoch'] + 1}), at most {left:.0f} min left"
    )
