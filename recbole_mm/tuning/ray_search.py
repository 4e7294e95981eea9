r"""A search by Ray Tune: RecBole's HyperTuning draws the trials, Ray runs them side by side.

Importing this module imports ray.
"""

import os
import tempfile

import pyarrow  # noqa: F401  Ray Tune finds out after the last trial that it needs it
import ray
from ray import tune
from ray.tune.search.hyperopt import HyperOptSearch
from recbole.trainer import HyperTuning

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported home
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths of the configuration
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output ignores verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # we record the trials ourselves
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupted search must not count as finished
}
"""Settings of Ray, which reads them from the environment."""


def run_by_ray(search: HyperTuning, bigger: bool, seed: int, jobs: int, gpus: int) -> None:
    """Draw and run the trials of a search; with the same seed they are those of ``search.run()``.

    Every process has its share of the cores and GPUs. Ray's own files are deleted afterwards.

    Args:
        search: space, algorithm, number of trials, and the objective function, which is called
            with the parameters and ``gpu_id``.
        bigger: whether a bigger ``best_valid_score`` is better.
        seed: of the draws.
        jobs: trials at once.
        gpus: number of GPUs that Ray may use.

    Raises:
        Exception: the first one that the objective function raised; it ends the search.
    """
    draws = HyperOptSearch(
        search.space,
        metric="best_valid_score",
        mode="max" if bigger else "min",
        random_state_seed=seed,
    )
    draws.algo = search.algo  # type: ignore[has-type]
    cores = max(jobs, os.cpu_count() or 1)
    trial = tune.with_parameters(_trial, objective=search.objective_function)
    share = {"cpu": cores // jobs, "gpu": min(1, gpus / jobs)}
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        ray.init(
            address="local",
            num_cpus=cores,
            num_gpus=gpus,
            object_store_memory=2**27,  # bytes; nothing large is passed
            include_dashboard=False,
            log_to_driver=False,
            logging_level="CRITICAL",
            _temp_dir=folder,
        )
        try:
            results = tune.Tuner(
                tune.with_resources(trial, share),
                tune_config=tune.TuneConfig(
                    search_alg=draws,
                    num_samples=int(search.max_evals),
                    max_concurrent_trials=jobs,
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    failure_config=tune.FailureConfig(fail_fast=True),
                    callbacks=[PrintTrials()],
                    verbose=0,
                ),
            ).fit()
        finally:
            ray.shutdown()
    for error in results.errors:
        raise getattr(error, "cause", error)


class PrintTrials(tune.Callback):
    """A line for every trial that ends."""

    def on_trial_complete(self, iteration, trials, trial, **info):  # noqa: ARG002  as Ray calls it
        print(f"{trial.config}: {trial.last_result['best_valid_result']}", flush=True)


def _trial(params: dict, objective) -> dict:
    # without it RecBole would leave the GPU of this process for the one of its configuration; Ray sets
    # the variable in processes that have one
    return objective(params, gpu_id=os.environ.get("CUDA_VISIBLE_DEVICES", ""))
