"""The objective of a search: one point of the search space, trained and validated.

hyperopt, Optuna and Ray Tune call the same function, in this process, in another or on another
machine.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from logging import getLogger
from typing import NamedTuple

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.run.logs import start_logging
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import is_lack_of_memory
from recbole_mm.tuning.search_space import read_drawn

Judge = Callable[[int, float], bool]
"""Takes an epoch, from 0, and its validation score; returns whether the trial ends here."""


class Outcome(NamedTuple):
    """How a trial ended.

    Attributes:
        state: ``complete``, ``pruned`` or ``failed``.
        score: best validation score of a complete trial.
        epochs: number of trained epochs.
        seconds: duration in seconds.
        reason: reason for a failure.
        again: whether the machine caused the failure (lack of memory, a process that died), so that
            another try is worthwhile.
    """

    state: str
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str | None = None
    again: bool = False


class Pruned(Exception):
    """Raised during the training of a trial that is not worth its time."""


def best_validation(
    values: dict, files: list[str], on_validation: Callable[[int, float], None]
) -> tuple[float | None, int]:
    """Train one configuration, without a checkpoint and without a test.

    Args:
        values: values of its keys.
        files: yaml files, which ``values`` override.
        on_validation: function that is called with the epoch, from 0, and its score.

    Returns:
        the best validation score, ``None`` without validation targets; the number of trained
        epochs.
    """
    config = load_config(config_files=files, config_dict=values)
    start_logging(config)
    run = Run(config)
    run.train(saved=False, verbose=False, on_validation=on_validation)
    return run.best_validation()[0], run.n_epochs


@dataclass(frozen=True)
class Objective:
    """Trains and validates one point; it can be pickled.

    Attributes:
        fixed: model, data set and all keys that are not searched.
        files: yaml files, which ``fixed`` overrides.
    """

    fixed: dict
    files: list[str]

    def __call__(self, point: dict, judge: Judge | None = None, **place) -> Outcome:
        """Run a trial.

        A trial that cannot be trained (widths that do not divide, a loss that is not a number, too
        little memory) is an outcome, not an error.

        Args:
            point: values of the keys that are searched.
            judge: function that is called after every validation; ``True`` prunes the trial.
            place: keys that determine where it runs.

        Raises:
            ConfigError: the split has no validation targets.
        """
        begun, validated = time.perf_counter(), [0]

        def on_validation(epoch: int, score: float) -> None:
            validated.append(epoch + 1)
            if judge and judge(epoch, float(score)):
                raise Pruned

        def ended(state: str, **details) -> Outcome:
            seconds = round(time.perf_counter() - begun, 1)
            return Outcome(state, **{"epochs": validated[-1], "seconds": seconds, **details})

        drawn = {key: read_drawn(value) for key, value in point.items()}
        values = {**self.fixed, **drawn, "show_progress": False, **place}
        try:
            score, epochs = best_validation(values, self.files, on_validation)
        except Pruned:
            return ended("pruned")
        except (MemoryError, RuntimeError, TypeError, ValueError) as error:
            getLogger().warning(f"trial {point} failed: {error}")
            getLogger().info("where it failed:", exc_info=True)
            reason = str(error) or type(error).__name__
            return ended("failed", reason=reason, again=is_lack_of_memory(error))
        if score is None:
            raise ConfigError(
                "nothing to tune by: eval_args leave no validation targets; give a split that has "
                "some"
            )
        return ended("complete", score=float(score), epochs=epochs)
