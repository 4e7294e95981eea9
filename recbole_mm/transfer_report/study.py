"""The study behind a report: its stages, of which the unfinished ones are run, and its
baselines."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.kept_tables import tables_in_memory
from recbole_mm.data.shared_users import SharedUsers, shared_users
from recbole_mm.run.identity import data_hashes
from recbole_mm.run.logs import quiet_console
from recbole_mm.run.progress import EpochLines
from recbole_mm.run.result import Result
from recbole_mm.run.splits import find_or_make
from recbole_mm.run.stages import Stage
from recbole_mm.tools import processes
from recbole_mm.tools.errors import RunFailed
from recbole_mm.tools.interrupts import leaving
from recbole_mm.transfer.pretrained import read_pretrained
from recbole_mm.transfer_report.baselines import POPULARITY, baseline_configs
from recbole_mm.transfer_report.budget import Description, describe, equal_steps
from recbole_mm.transfer_report.outcomes import Outcome, Tested
from recbole_mm.transfer_report.settings import ALL, Condition, Settings
from recbole_mm.transfer_report.variants import (
    NOT_TRAINED,
    SCRATCH,
    TRAINED,
    UNFROZEN,
    WITH_NEIGHBORS,
    Trial,
    find_trials,
    plan,
    without_id_setting,
)

Place = tuple[str, Condition]
"""A target under a condition."""

Scores = dict[float, float | None]
"""Best validation score by learning rate."""


class Study(NamedTuple):
    """Everything that a report is made from.

    Attributes:
        settings: settings of the study.
        pretrainings: result and configuration of each pretrain stage, by name and seed.
        outcomes: outcomes of starts and baselines.
        searched: scores of each start that tried several learning rates, by target, condition and
            start.
        descriptions: descriptions of the data, by target and condition.
        hashes: SHA-256 of the files of all data sets.
        shared: users that targets share with the data of their pre-training.
        trained_on: data sets and domains that each pre-trained model was trained on, by its path.
    """

    settings: Settings
    pretrainings: dict[tuple[str, int], tuple[Result, dict]]
    outcomes: list[Outcome]
    searched: dict[tuple[str, Condition, str], Scores]
    descriptions: dict[Place, Description]
    hashes: dict[str, str]
    shared: list[SharedUsers]
    trained_on: dict[str, set[str]]


def run_study(settings: Settings, log: Callable[[str], None]) -> Study:
    """Run the unfinished stages of a study, and its baselines.

    Args:
        settings: settings of the study.
        log: function that is called with a line about each stage.

    Raises:
        ConfigError: options contradict each other, there are several processes, or no stage starts
            from a pre-trained model.
        UserError: data cannot be used; the data are loaded and the models created before one is
            trained.
    """
    kept = "finished stages are kept; the same command resumes"
    with quiet_console(), tables_in_memory(), leaving(lambda: kept):
        return _run_study(settings, log)


def _run_study(settings: Settings, log: Callable[[str], None]) -> Study:
    processes.start()
    if processes.size() > 1:
        raise ConfigError("transfer-report runs in one process: start it without torchrun")
    trials = find_trials(settings)
    stages = plan(trials, settings, settings.seeds[0])
    for stage in stages:
        _refuse_smaller_is_better(stage.config)
        find_or_make(stage.config)
    descriptions = {
        (trial.target, trial.condition): describe(stage.config)
        for trial, stage in _first_of_scratch(trials, stages)
    }
    _refuse_untested(descriptions)
    trials = [
        _with_equal_steps(trial, stage.config, descriptions, settings.steps)
        for trial, stage in zip(trials, stages, strict=True)
    ]
    modalities = {
        without_id_setting(target): description.modalities
        for (target, _), description in descriptions.items()
    }
    shared = _shared_users(stages)
    for users in shared:
        log(str(users))
    runner = Runner(settings, log)
    searched = {}
    if settings.learning_rates:
        searched = _search(trials, runner, settings.seeds[0])
        trials = [trial for trial in trials if _is_chosen(trial, searched)]
    pretrainings: dict[tuple[str, int], tuple[Result, dict]] = {}
    outcomes = []
    for seed in settings.seeds:
        for trial, stage, result in runner.run(trials, seed):
            if trial.is_pretraining:
                pretrainings[trial.target, seed] = result, config_to_plain(stage.config)
                continue
            outcomes += _outcomes(trial, seed, stage, result, modalities.get(trial.target, []))
    stages = plan(trials, settings, settings.seeds[0])
    outcomes += _baselines(_first_of_scratch(trials, stages), descriptions)
    hashes = {name: h for stage in stages for name, h in data_hashes(stage.config).items()}
    trained_on = _trained_on(outcomes)
    return Study(
        settings, pretrainings, outcomes, searched, descriptions, hashes, shared, trained_on
    )


def _trained_on(outcomes: list[Outcome]) -> dict[str, set[str]]:
    """Data sets and domains in the records of the pre-trained models, by path."""
    models = {
        outcome.config["pre_model_path"]: outcome.config["model"]
        for outcome in outcomes
        if outcome.start == UNFROZEN
    }
    return {
        path: {
            name
            for record in read_pretrained(path, model).training_data
            for name in record["domains"] or [record["name"]]
        }
        for path, model in models.items()
    }


def _refuse_smaller_is_better(config) -> None:
    if not config["valid_metric_bigger"]:
        raise ConfigError(
            f"valid_metric: {config['valid_metric']}, of which a smaller value is better: "
            f"transfer-report compares validation scores of which a larger one is better, such as "
            f"NDCG@10"
        )


def _refuse_untested(descriptions: dict[Place, Description]) -> None:
    for (target, condition), description in descriptions.items():
        if condition.held_out_items and not description.counts["test targets"]:
            raise ConfigError(
                f"--new_items={condition.held_out_items:g}: {len(description.held_out)} of the "
                f"{description.counts['items']} items of {target} are held out, and none of "
                f"them is a test target; give a larger share"
            )


class Runner:
    """Runs the stages of trials with one seed after another.

    Args:
        settings: settings of the study.
        log: function that is called with a line about each stage.
    """

    def __init__(self, settings: Settings, log: Callable[[str], None]):
        self.settings, self.log = settings, log
        self._checked = False

    def run(
        self, trials: list[Trial], seed: int, may_fail: bool = False
    ) -> Iterator[tuple[Trial, Stage, Result]]:
        """Every trial with its stage and the result; finished stages are not repeated.

        Args:
            trials: trials in order.
            seed: random seed.
            may_fail: whether to skip a trained start that fails, e.g. if its learning rate is too
                high.
        """
        stages = plan(trials, self.settings, seed)
        results: list[Result | None] = []
        for number, (trial, stage) in enumerate(zip(trials, stages, strict=True)):
            if stage.source is not None:
                source = results[stage.source]
                assert source is not None  # a pretrain stage does not fail silently
                stage.config["pre_model_path"] = source.checkpoint
            self._check_once(trials, stages, number)
            name = f"{trial.text}, seed {seed}"
            stage.config["show_progress"] = False
            try:
                result = stage.run(name, on_validation=self._lines_about(name, stage))
            except RunFailed as error:
                if not may_fail or trial.start not in TRAINED:
                    raise
                self.log(f"[{number + 1}/{len(trials)}] {name}: FAILED: {error}")
                results.append(None)
                continue
            results.append(result)
            self.log(f"[{number + 1}/{len(trials)}] {name}: {_reached(result)}")
            yield trial, stage, result

    def _lines_about(self, name: str, stage: Stage) -> EpochLines:
        return EpochLines(stage.config, lambda line: self.log(f"{name}: {line}"))

    def _check_once(self, trials: list[Trial], stages: list[Stage], number: int) -> None:
        """Check, before the first stage is trained, every later one with other data or another
        start."""
        if self._checked or stages[number].result() is not None:
            return
        self._checked = True
        known = set()
        for trial, stage in zip(trials[number + 1 :], stages[number + 1 :], strict=True):
            if (trial.target, trial.start) not in known:
                stage.check(trial.text, None if stage.source is None else stages[stage.source])
            known.add((trial.target, trial.start))


def _reached(result: Result) -> str:
    score = "-" if result.best_valid_score is None else f"{result.best_valid_score:.4f}"
    return f"validation {result.valid_metric} {score}, {result.seconds:.0f} s"


def _shared_users(stages: list[Stage]) -> list[SharedUsers]:
    """The users that each target shares with the data of its pre-training, without duplicates."""
    pairs: dict[tuple, tuple] = {}
    for stage in stages:
        if stage.source is not None:
            source, target = stages[stage.source].config, stage.config
            pairs.setdefault(tuple(map(_users_in, (source, target))), (source, target))
    found = dict.fromkeys(shared_users(*pair) for pair in pairs.values())
    return [users for users in found if users is not None]


def _users_in(config) -> tuple[str, ...]:
    """What determines the users of a data set."""
    keys = ("data_path", "dataset", "domains", "exclude_users_of")
    return tuple(str(config[key]) for key in keys)


def _first_of_scratch(trials: list[Trial], stages: list[Stage]) -> list[tuple[Trial, Stage]]:
    """The first trial from scratch on each target under each condition, with its stage."""
    found: dict[Place, tuple[Trial, Stage]] = {}
    for trial, stage in zip(trials, stages, strict=True):
        if trial.start == SCRATCH:
            found.setdefault((trial.target, trial.condition), (trial, stage))
    return list(found.values())


def _with_equal_steps(
    trial: Trial, config, descriptions: dict[Place, Description], steps: int | None
) -> Trial:
    if trial.start not in TRAINED:
        return trial
    whole, part = (descriptions[trial.target, condition] for condition in (ALL, trial.condition))
    changes = equal_steps(config, whole.steps_per_epoch, part.steps_per_epoch, steps)
    return trial._replace(overlay=trial.overlay | changes)


def _search(
    trials: list[Trial], runner: Runner, seed: int
) -> dict[tuple[str, Condition, str], Scores]:
    """The best validation score of every learning rate of every trained start.

    Raises:
        RunFailed: a start has failed with every learning rate, or nothing is validated.
    """
    searched: dict[tuple[str, Condition, str], Scores] = {}
    for target, start, condition, rate, _ in trials:
        if rate is not None:
            searched.setdefault((target, condition, start), {})[rate] = None
    for trial, _, result in runner.run(trials, seed, may_fail=True):
        if trial.learning_rate is not None:
            scores = searched[trial.target, trial.condition, trial.start]
            scores[trial.learning_rate] = result.best_valid_score
    for (target, condition, start), scores in searched.items():
        if all(score is None for score in scores.values()):
            raise RunFailed(
                f"{target}, {start}, {condition.text}: no learning rate of {list(scores)} has a "
                f"validation score: give others, or a split with validation targets"
            )
    return searched


def best_rate(scores: Scores) -> float:
    """The learning rate with the best score."""
    known = {rate: score for rate, score in scores.items() if score is not None}
    return max(known, key=lambda rate: known[rate])


def _is_chosen(trial: Trial, searched: dict[tuple[str, Condition, str], Scores]) -> bool:
    scores = searched.get((trial.target, trial.condition, trial.start))
    return scores is None or trial.learning_rate == best_rate(scores)


def _outcomes(
    trial: Trial, seed: int, stage: Stage, result: Result, modalities: list[str]
) -> list[Outcome]:
    """The outcome of a start; for one without training also that with the scores of neighbors
    added."""
    tested, config = Tested(stage), config_to_plain(stage.config)
    own = (trial.target, trial.start, trial.condition, seed, config, result)
    outcomes = [Outcome(*own, *tested.ranks())]
    if trial.start in NOT_TRAINED and modalities:
        baselines = baseline_configs(stage.config, modalities)
        neighbors = [config for name, config in baselines.items() if name != POPULARITY]
        added = outcomes[0]._replace(start=WITH_NEIGHBORS[trial.start], result=None)
        ranks, made_with = tested.ranks(neighbors)
        outcomes.append(added._replace(ranks=ranks, environment=made_with))
    return outcomes


def _baselines(
    scratch: list[tuple[Trial, Stage]], descriptions: dict[Place, Description]
) -> list[Outcome]:
    """Baselines on every target under every condition, once for models with and without IDs."""
    outcomes: dict[tuple[str, str, Condition], Outcome] = {}
    for trial, stage in scratch:
        target, condition = without_id_setting(trial.target), trial.condition
        modalities = descriptions[trial.target, condition].modalities
        for name, config in baseline_configs(stage.config, modalities).items():
            if (target, name, condition) in outcomes:
                continue
            ranks, made_with = Tested(Stage(config), trained=False).ranks()
            outcomes[target, name, condition] = Outcome(
                target, name, condition, config["seed"], config_to_plain(config), None, ranks,
                made_with,
            )  # fmt: skip
    return list(outcomes.values())
