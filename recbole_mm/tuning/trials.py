"""The trials of a search: an Optuna study in a journal, from which the search resumes.

Every tool starts and ends its trials here, in the one process that draws them. hyperopt draws by
itself; for the other tools :meth:`Trials.draw` draws.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from recbole_mm.config.errors import ConfigError
from recbole_mm.tools.hashing import sha256_of_parts
from recbole_mm.tuning.distributions import Space, distributions_of, grid, to_params, to_point
from recbole_mm.tuning.journal import open_journal
from recbole_mm.tuning.objective import Outcome
from recbole_mm.tuning.settings import SearchSettings

SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "bayes": lambda seed: TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed: RandomSampler(seed=seed),
}
"""Samplers by ``--algorithm``."""

PRUNERS: dict[str, Callable[[], BasePruner]] = {
    "asha": lambda: SuccessiveHalvingPruner(min_resource=4, reduction_factor=3),
    "median": lambda: MedianPruner(n_startup_trials=5, n_warmup_steps=4),
    "none": NopPruner,
}
"""Pruners by ``--pruner``. Steps are epochs; no trial is pruned before it has been trained for
four. asha also counts the epochs of interrupted trials."""

MOST_DRAWS = 20
"""Number of known points that the sampler may draw before the grid gives a new one."""

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command reports the trials


class Trials:
    """The trials of one search.

    Args:
        path: path of the journal, which may hold other searches too.
        search: hash of the fixed keys and of the data; trials of the same values are not repeated,
            even if they belong to a search with another space or algorithm.
        space: search space (:func:`~recbole_mm.tuning.search_space.read_search_space`).
        settings: settings that determine how trials are drawn.
        bigger: whether a bigger score is better.
        defaults: first point; ``None``: the algorithm draws it.
        whole: keys whose values are whole numbers.
        log: function that is called with a line when a trial ends.
    """

    def __init__(
        self,
        path: Path,
        search: str,
        space: Space,
        settings: SearchSettings,
        bigger: bool,
        defaults: dict | None = None,
        whole: frozenset[str] = frozenset(),
        log: Callable[[str], None] = print,
    ):
        self.space, self.settings, self.defaults, self.whole = space, settings, defaults, whole
        self.bigger, self.log = bigger, log
        storage = open_journal(path)
        parts = [json.dumps(space), settings.algorithm, settings.pruner, str(settings.seed)]
        parts.append("hyperopt" if settings.tool == "hyperopt" else "optuna")
        self.study = optuna.create_study(
            study_name=f"{search}-{sha256_of_parts(parts)[:12]}",
            storage=storage,
            load_if_exists=True,
            direction="maximize" if bigger else "minimize",
            pruner=PRUNERS[settings.pruner](),
        )
        exhaustive = settings.algorithm == "exhaustive"
        self.total = sum(1 for _ in grid(space)) if exhaustive else settings.budget
        self._end_interrupted()
        self.tried: set[str] = set()
        self.died: set[str] = set()
        self.elsewhere = {
            _key(trial.user_attrs["point"]): _outcome(trial)
            for name in optuna.get_all_study_names(storage)
            if name.startswith(f"{search}-") and name != self.study.study_name
            for trial in optuna.load_study(study_name=name, storage=storage).trials
            if trial.state == TrialState.COMPLETE
        }

    @property
    def name(self) -> str:
        """The name of this search in the journal."""
        return self.study.study_name

    @property
    def _all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that have ended and were not interrupted; for a point that was tried again,
        the last one."""
        latest = {_key(t.user_attrs["point"]): t for t in self._all if _has_ended(t)}
        return sorted(latest.values(), key=lambda trial: trial.number)

    def known(self, point: dict) -> Outcome | None:
        """How the trial of a point ended, if it has; a failure of an earlier command does not count."""
        key = _key(point)
        found = next((t for t in self.ended if _key(t.user_attrs["point"]) == key), None)
        if found is None or (found.state == TrialState.FAIL and key not in self.tried):
            return None
        return _outcome(found)

    def run(self, trial: Trial, objective: Callable[..., Outcome]) -> Outcome:
        """Run a trial in this process, unless its score is known from another search."""
        point = trial.user_attrs["point"]
        outcome = self.elsewhere.get(_key(point)) or objective(point, partial(self.judge, trial))
        self.finish(trial, outcome)
        return outcome

    def start(self, point: dict) -> Trial:
        """Begin the trial of a point."""
        params = to_params(point, self.space)
        self.tried.add(_key(point))
        self.study.enqueue_trial(params, user_attrs={"point": point})
        distributions = distributions_of(self.space)
        return self.study.ask({key: distributions[key] for key in params})

    def judge(self, trial: Trial, epoch: int, score: float) -> bool:
        """Record the score of an epoch; return whether the trial is to be pruned."""
        if epoch + 1 not in self._all[trial.number].intermediate_values:  # tried again
            trial.report(score, epoch + 1)
        return trial.should_prune()

    def finish(self, trial: Trial, outcome: Outcome) -> None:
        """Record how a trial ended."""
        if outcome.score is not None and not math.isfinite(outcome.score):
            reason = f"the validation score is {outcome.score}"
            outcome = outcome._replace(state="failed", score=None, reason=reason)
        for name in ("epochs", "seconds", "reason", "again"):
            trial.set_user_attr(name, getattr(outcome, name))
        key = _key(trial.user_attrs["point"])
        if outcome.again and key not in self.died:
            self.died.add(key)
            self.tried.discard(key)
        self.study.tell(trial, outcome.score, STATES[outcome.state])
        self.log(self._line(trial, outcome))

    def draw(self) -> Trial | None:
        """Begin the next trial; ``None`` at the end of the search, or while the remaining trials
        wait for those that are still running.

        The first trial is that of the defaults. Points whose scores are known are recorded at once.
        At the end, failures of earlier commands and of the machine are tried again.
        """
        while (point := self._next()) is not None:
            trial = self.start(point)
            if _key(point) not in self.elsewhere:
                return trial
            self.finish(trial, self.elsewhere[_key(point)])
        return None

    def best(self) -> FrozenTrial:
        """The best trial.

        Raises:
            ConfigError: all trials have failed.
        """
        complete = [trial for trial in self.ended if trial.state == TrialState.COMPLETE]
        if not complete:
            reasons = sorted({trial.user_attrs["reason"] for trial in self.ended})
            raise ConfigError(
                f"all {len(self.ended)} trials failed: {'; '.join(reasons)}; see their logs, in "
                f"log/ and in output/ next to the journal"
            )
        return (max if self.bigger else min)(complete, key=score_of)

    def _end_interrupted(self) -> None:
        """Mark the trials that ran when the last command ended as failed without a reason; they are
        drawn again."""
        while any(trial.state == TrialState.WAITING for trial in self._all):
            self.study.ask()
        for trial in self._all:
            if trial.state == TrialState.RUNNING:
                self.study.tell(trial.number, state=TrialState.FAIL)

    def _next(self) -> dict | None:
        counted = [t for t in self._all if _has_ended(t) or t.state == TrialState.RUNNING]
        seen = {_key(trial.user_attrs["point"]) for trial in counted}
        unseen = (point for point in grid(self.space) if _key(point) not in seen)
        if self._is_over():
            return None
        if self.settings.algorithm == "exhaustive":
            point = next(unseen, None)
        elif len(seen) >= self.settings.budget:
            point = None
        elif self.defaults and _key(self.defaults) not in seen:
            point = self.defaults
        else:
            point = self._sample(counted, seen) or next(unseen, None)
        return point or self._failed_before()

    def _is_over(self) -> bool:
        """Whether none of the last ``patience`` trials was better; a grid always runs
        completely."""
        if self.settings.algorithm == "exhaustive":
            return False
        ended = [t for t in self.ended if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if self.settings.patience is None or not any(t.state.name == "COMPLETE" for t in ended):
            return False
        best = self.best().number
        return sum(trial.number > best for trial in ended) >= self.settings.patience

    def _failed_before(self) -> dict | None:
        for trial in self.ended:
            point = trial.user_attrs["point"]
            if trial.state == TrialState.FAIL and _key(point) not in self.tried:
                return point
        return None

    def _sample(self, counted: list[FrozenTrial], seen: set[str]) -> dict | None:
        """A point that the sampler draws, ``None`` if it draws only known ones.

        Draws depend on the seed and on the trials so far, not on interruptions. They are made in a
        copy, so that draws of known points leave no trace.
        """
        state = np.random.SeedSequence([self.settings.seed, len(seen)]).generate_state(1)
        sampler = SAMPLERS[self.settings.algorithm](int(state[0]))
        copy = optuna.create_study(direction=self.study.direction, sampler=sampler)
        copy.add_trials(counted)
        distributions = distributions_of(self.space)
        for _ in range(MOST_DRAWS):
            drawn = copy.ask(distributions)
            point = self.whole_numbers(to_point(drawn.params, self.space))
            if _key(point) not in seen:
                return point
        return None

    def whole_numbers(self, point: dict) -> dict:
        """Convert the floats that a ``quniform`` draws to int for keys of whole numbers: 64.0 to
        64."""
        return {
            key: int(value)
            if isinstance(value, float) and value.is_integer() and key in self.whole
            else value
            for key, value in point.items()
        }

    def _line(self, trial: Trial, outcome: Outcome) -> str:
        values = trial.user_attrs["point"].items()
        point = ", ".join(f"{key}={shown(value)}" for key, value in values)
        ended = {
            "complete": lambda: f"{outcome.score:.4f}",
            "pruned": lambda: f"pruned after {outcome.epochs} epochs",
            "failed": lambda: f"FAILED: {outcome.reason}",
        }[outcome.state]()
        return f"[{len(self.ended)}/{self.total}] {point}: {ended} ({outcome.seconds:.0f} s)"


def shown(value) -> str:
    """A value of a point, for display."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def score_of(trial: FrozenTrial) -> float:
    """The score of a complete or pruned trial."""
    assert trial.value is not None
    return trial.value


def _has_ended(trial: FrozenTrial) -> bool:
    """Whether a trial has ended; an interrupted one, which has failed without a reason, has not."""
    return trial.state.is_finished() and (
        trial.state != TrialState.FAIL or trial.user_attrs.get("reason") is not None
    )


def _outcome(trial: FrozenTrial) -> Outcome:
    state = next(name for name, state in STATES.items() if state == trial.state)
    score = trial.value if state == "complete" else None
    attributes = {name: trial.user_attrs[name] for name in ("epochs", "seconds", "reason", "again")}
    return Outcome(state, score, **attributes)


def _key(point: dict) -> str:
    """A key that is equal for equal values, including 0 and 0.0."""
    whole = {k: int(v) for k, v in point.items() if isinstance(v, float) and v.is_integer()}
    return json.dumps({**point, **whole}, sort_keys=True)
