"""When a run reaches a share of the best validation score of training from scratch."""

from typing import NamedTuple

from recbole_mm.run.result import Result

SHARES = (0.95, 1.0)
"""Shares of scratch's best validation score."""


class Reached(NamedTuple):
    """When the runs of a start reach a score, one entry per seed; ``None`` if never.

    Attributes:
        share: share of the best validation score of the run from scratch with the same seed.
        steps: optimizer steps.
        seconds: seconds since the start of training, including validation.
    """

    share: float
    steps: list[int | None]
    seconds: list[float | None]

    @property
    def times(self) -> int:
        """Number of seeds that reach it."""
        return sum(step is not None for step in self.steps)


def reached(
    results: dict[int, Result], scratch: dict[int, Result], share: float, steps_per_epoch: int
) -> Reached:
    """When every seed reaches ``share`` of the best score of the run from scratch.

    Args:
        results: results of a start, by seed.
        scratch: results from scratch, by seed; a seed without validation is skipped.
        share: share of the best validation score.
        steps_per_epoch: optimizer steps per epoch.
    """
    steps: list[int | None] = []
    seconds: list[float | None] = []
    for seed, result in results.items():
        best = scratch[seed].best_valid_score
        if best is None or not scratch[seed].history:
            continue
        entry = next((e for e in result.history if e["valid_score"] >= share * best), None)
        steps.append(None if entry is None else (entry["epoch"] + 1) * steps_per_epoch)
        seconds.append(None if entry is None else entry["seconds"])
    return Reached(share, steps, seconds)
