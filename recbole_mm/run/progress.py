"""The progress of a run, in one line."""

import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 30


class EpochLines:
    """Log a line about a run of this process from time to time; called with each validated epoch
    and its score.

    Args:
        config: configuration of the run.
        log: function that logs a line.
    """

    def __init__(self, config, log: Callable[[str], None]):
        self.epochs, self.metric, self.log = config["epochs"], config["valid_metric"], log
        self.history: list[dict] = []
        self._begun = self._shown = time.monotonic()

    def __call__(self, epoch: int, score: float) -> None:
        now = time.monotonic()
        entry = {"epoch": epoch, "valid_score": score, "seconds": now - self._begun}
        self.history.append(entry)
        if now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            self.log(describe(self.history, self.epochs, self.metric))


def describe(history: list[dict], epochs: int, metric: str) -> str:
    """Describe the progress in one line.

    Args:
        history: validated epochs, see :class:`~recbole_mm.training.recorded.RecordedTraining`.
        epochs: maximum number of epochs.
        metric: validation metric; larger is better.
    """
    latest = history[-1]
    done = latest["epoch"] + 1
    best = max(history, key=lambda entry: entry["valid_score"])
    left = latest["seconds"] / done * (epochs - done) / 60
    return (
        f"epoch {done} of at most {epochs}, validation {metric} {latest['valid_score']:.4f} (best "
        f"{best['valid_score']:.4f} in epoch {best['epoch'] + 1}), at most {left:.0f} min left"
    )
