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
        self.config, self.log = config, log
        self.history: list[dict] = []
        self._begun = self._shown = time.monotonic()

    def __call__(self, epoch: int, score: float) -> None:
        now = time.monotonic()
        entry = {"epoch": epoch, "valid_score": score, "seconds": now - self._begun}
        self.history.append(entry)
        if now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            self.log(describe(self.history, self.config))


def describe(history: list[dict], config) -> str:
    """Describe the progress in one line.

    Args:
        history: validated epochs, see :class:`~recbole_mm.training.recorded.RecordedTraining`; of a
            resumed run, those since it was resumed are enough.
        config: configuration of the run.
    """
    first, latest = history[0], history[-1]
    better = max if config["valid_metric_bigger"] else min
    best = better(history, key=lambda entry: entry["valid_score"])
    if latest["epoch"] > first["epoch"]:
        seconds = latest["seconds"] - first["seconds"]
        per_epoch = seconds / (latest["epoch"] - first["epoch"])
    else:  # a resumed run begins at most eval_step epochs before its first validation
        per_epoch = latest["seconds"] / max(1, min(latest["epoch"] + 1, config["eval_step"]))
    done = latest["epoch"] + 1
    left = per_epoch * (config["epochs"] - done) / 60
    since = " since the run was resumed" if first["epoch"] >= config["eval_step"] else ""
    return (
        f"epoch {done} of at most {config['epochs']}, validation {config['valid_metric']} "
        f"{latest['valid_score']:.4f} (best{since} {best['valid_score']:.4f} in epoch "
        f"{best['epoch'] + 1}), at most {left:.0f} min left"
    )
