"""A search by RecBole's HyperTuning, from the settings to a yaml file that runs."""

from pathlib import Path
from typing import NamedTuple

import yaml
from recbole.trainer import HyperTuning

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.property_files import read_layers
from recbole_mm.run.jobs import GPU_VARIABLE, environment, number_of_jobs, visible_gpus
from recbole_mm.tools.extras import extra_needed
from recbole_mm.tools.files import require_writable, write_text
from recbole_mm.tuning.search_space import read_search_space, refuse_ranges, searched
from recbole_mm.tuning.trials import Trials

ALGORITHMS = ("exhaustive", "random", "bayes")
TOOLS = ("hyperopt", "ray")
TRIALS, BEST = "trials.jsonl", "best.yaml"
SEED_VARIABLE = "HYPEROPT_FMIN_SEED"


class SearchSettings(NamedTuple):
    """How trials are drawn and run.

    Attributes:
        algorithm: ``exhaustive`` (the whole grid, whatever the budget), ``random`` or ``bayes``.
        budget: number of trials.
        patience: trials without a better one after which ``random`` and ``bayes`` end; ``None``:
            never.
        seed: of the draws.
        tool: ``hyperopt`` runs one trial after another, ``ray`` several at a time.
        jobs: how many; ``None``: one per GPU or core, and one for ``bayes``.
    """

    algorithm: str = "random"
    budget: int = 20
    patience: int | None = None
    seed: int = 2020
    tool: str = "hyperopt"
    jobs: int | None = None


def check_settings(settings: SearchSettings) -> None:
    """Refuse settings that are unknown or exclude each other.

    Raises:
        ConfigError: names the option.
    """
    algorithm, tool, jobs = settings.algorithm, settings.tool, settings.jobs
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"--algorithm={algorithm}: must be one of {', '.join(ALGORITHMS)}")
    if tool not in TOOLS:
        raise ConfigError(f"--tool={tool}: must be one of {', '.join(TOOLS)}")
    if tool == "ray" and settings.patience is not None:
        raise ConfigError("--patience needs --tool=hyperopt: simultaneous trials have no order")
    if tool == "hyperopt" and jobs is not None:
        raise ConfigError("--jobs needs --tool=ray: hyperopt runs one trial after another")
    if algorithm == "bayes" and (jobs or 1) > 1:
        raise ConfigError(f"--jobs={jobs}: bayes draws each trial from those before, one at a time")
    for name, value in (("budget", settings.budget), ("patience", settings.patience)):
        if value is not None and value < 1:
            raise ConfigError(f"--{name}={value}: give a number >= 1")


def tune(fixed: dict, space: Path, out: Path, settings: SearchSettings, files=()) -> Path:
    """Search, and write the best configuration as a yaml file that runs.

    Args:
        fixed: ``model``, ``dataset`` and all keys that are not searched, even if ``space`` has
            them.
        space: file in RecBole's format, see :mod:`recbole_mm.tuning.search_space`.
        out: folder of ``trials.jsonl`` and ``best.yaml``.
        settings: how trials are drawn and run.
        files: yaml files below ``fixed``.

    Returns:
        the path of ``best.yaml``.

    Raises:
        ConfigError: see :func:`check_settings`; a search space that cannot be used; a folder that
            cannot be written to; every trial failed.
    """
    check_settings(settings)
    gpus = visible_gpus(fixed.get("gpu_id"))
    one_by_one = settings.algorithm == "bayes" and settings.jobs is None
    jobs = number_of_jobs(1 if one_by_one else settings.jobs, gpus)
    parameters = read_search_space(space, fixed)
    if settings.algorithm == "exhaustive":
        refuse_ranges(parameters, space)
    require_writable(out, "Give another --out")
    trials = Trials(out / TRIALS, fixed, list(files), parameters)
    print("\n".join(["searched:", *searched(parameters)]), flush=True)
    with extra_needed("tune", "tune"):
        search = _make_search(trials, parameters, settings)
        if settings.tool == "ray":
            from recbole_mm.tuning import ray_search
    if settings.tool == "ray":
        with environment({**ray_search.SETTINGS, GPU_VARIABLE: ",".join(gpus) or None}):
            ray_search.run_by_ray(search, trials.bigger, settings.seed, jobs, len(gpus))
    else:
        with environment({SEED_VARIABLE: str(settings.seed)}):
            search.run()
    return _write_best(out / BEST, trials, settings.algorithm)


def _make_search(trials: Trials, parameters: dict, settings: SearchSettings) -> HyperTuning:
    search = HyperTuning(
        trials.objective,
        params_dict=parameters,
        algo=settings.algorithm,
        max_evals=settings.budget,
        early_stop=settings.patience or settings.budget,
    )
    if settings.algorithm == "exhaustive":
        from hyperopt.early_stop import no_progress_loss

        search.early_stop_fn = no_progress_loss(int(search.max_evals))  # a grid runs to its end
    return search


def _write_best(path: Path, trials: Trials, algorithm: str) -> Path:
    finished, best = trials.finished, trials.best()
    seconds = sum(trial.get("seconds", 0.0) for trial in finished)
    config = load_config(config_files=trials.files, config_dict=trials.fixed)
    values = {**read_layers(trials.files), **trials.fixed, **best["params"]}
    text = (
        f"# recbole-mm --config_files={path}\n"
        f"# Best of {algorithm} search, {len(finished)} trials on {trials.fixed['dataset']}, "
        f"{seconds:.0f} s of training in all; "
        f"validation {config['valid_metric']} {best['valid_score']:.4f}.\n"
    ) + yaml.safe_dump(values, sort_keys=False)
    write_text(path, text)
    return path
