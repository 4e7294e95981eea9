"""A search by Ray Tune, on a cluster or on this machine: this process draws, the cluster trains.

Importing this module imports ray.
"""

import os
import tempfile

import pyarrow  # noqa: F401  Ray Tune finds out after the last trial that it needs it
from optuna.trial import Trial
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from recbole_mm.run.ray_cluster import connected, places
from recbole_mm.tools.variables import GPU_VARIABLE, environment
from recbole_mm.tuning.objective import Objective, Outcome
from recbole_mm.tuning.trials import Trials

SETTINGS: dict[str, str | None] = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the configuration
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output ignores verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we record the trials ourselves
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupted search must not count as finished
}
"""Settings of Ray Tune, which reads them from the environment."""

MOST_FAILURES = 3
"""Maximum number of restarts of a trial whose process or node died."""


def run_by_ray(trials: Trials, objective: Objective, jobs: int | None) -> None:
    """Draw and run the trials.

    All nodes have the data set and this package under the same paths; only points and scores travel.
    A trial that dies with its node is started again on another. Ray Tune's own files are deleted
    afterwards.

    Args:
        trials: trials of the search.
        objective: objective that trains a point.
        jobs: number of concurrent trials; ``None``: one per GPU of the cluster, or per core without
            GPUs.

    Raises:
        UserError: more concurrent trials than the cluster has cores.
    """
    with connected(), environment(SETTINGS), tempfile.TemporaryDirectory(prefix="ray-") as folder:
        found = places(jobs)
        searcher = StudySearcher(trials)
        trainable = tune.with_parameters(train, objective=objective, folder=os.getcwd())
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1, "gpu": found.gpus}),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(searcher),
                num_samples=-1,
                max_concurrent_trials=found.jobs,
            ),
            run_config=tune.RunConfig(
                storage_path=folder,
                failure_config=tune.FailureConfig(max_failures=MOST_FAILURES),
                verbose=0,
            ),
        ).fit()


class StudySearcher(Searcher):
    """Gives Ray Tune the trials of the study."""

    def __init__(self, trials: Trials):
        super().__init__()
        self.trials = trials
        self.running: dict[str, Trial] = {}

    def suggest(self, trial_id: str):
        """See Ray's method: a configuration, ``None`` (not now) or ``FINISHED``."""
        trial = self.trials.draw()
        if trial is None:
            return None if self.running else Searcher.FINISHED
        self.running[trial_id] = trial
        return dict(trial.user_attrs["point"])

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        """See Ray's method."""
        trial = self.running.pop(trial_id)
        if error or not result:
            reason = f"its process or its node died {MOST_FAILURES + 1} times"
            outcome = Outcome("failed", reason=reason, again=True)
        elif "state" in result:
            outcome = Outcome._make(result.get(name) for name in Outcome._fields)
        else:
            outcome = Outcome("pruned", epochs=result["epoch"] + 1, seconds=result["time_total_s"])
        self.trials.finish(trial, outcome)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Do nothing: a search resumes from its journal."""


class StudyScheduler(FIFOScheduler):
    """Ends a trial when the study prunes it."""

    def __init__(self, searcher: StudySearcher):
        super().__init__()
        self.searcher = searcher

    def on_trial_result(self, tune_controller, trial, result: dict) -> str:  # noqa: ARG002
        """See Ray's method."""
        if "state" in result:
            return TrialScheduler.CONTINUE
        drawn = self.searcher.running[trial.trial_id]
        pruned = self.searcher.trials.judge(drawn, result["epoch"], result["score"])
        return TrialScheduler.STOP if pruned else TrialScheduler.CONTINUE


def train(point: dict, objective: Objective, folder: str) -> None:
    """Run a trial on a node; Ray ends the process if it is pruned."""
    os.chdir(folder)

    def report(epoch: int, score: float) -> bool:
        tune.report({"epoch": epoch, "score": score})
        return False

    try:
        # without gpu_id RecBole would replace the GPU of this process by that of its configuration
        outcome = objective(point, report, gpu_id=os.environ.get(GPU_VARIABLE, ""))
    except Exception as error:  # noqa: BLE001 the user sees the reason; Ray restarts dead trials
        outcome = Outcome("failed", reason=str(error) or type(error).__name__)
    tune.report(outcome._asdict())
