"""A search, from the settings to a yaml file that runs and a report."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from recbole_mm.config.checks import forms_for
from recbole_mm.config.defaults import merge
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.config.plain import to_plain
from recbole_mm.config.property_files import read_layers
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.run.jobs import number_of_jobs, visible_gpus
from recbole_mm.run.logs import quiet_console
from recbole_mm.run.splits import find_or_make
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.extras import extra_needed
from recbole_mm.tools.files import require_writable, write_text
from recbole_mm.tools.locks import locked
from recbole_mm.tools.text_files import read_text
from recbole_mm.tuning.objective import Objective
from recbole_mm.tuning.search_space import read_search_space, refuse_ranges, searched
from recbole_mm.tuning.settings import SearchSettings, check_settings

JOURNAL, BEST, LOCK = "journal.log", "best.yaml", "lock"
FRACTIONS = (0.5, 1.5, 1000.5)
"""Every key whose numbers need not be whole accepts at least one of these."""


def tune(
    fixed: dict, space: Path, out: Path, settings: SearchSettings, files=(), command: str = ""
) -> tuple[Path, Path]:
    """Search, and write the best configuration as a yaml file that runs.

    Args:
        fixed: ``model``, ``dataset`` and all keys that are not searched, even if ``space`` has
            them.
        space: file in RecBole's format, see :mod:`recbole_mm.tuning.search_space`.
        out: folder of ``journal.log``, ``best.yaml`` and ``report.html``.
        settings: settings that determine how trials are drawn and run.
        files: yaml files, which ``fixed`` overrides.
        command: command line, for the report.

    Returns:
        the paths of ``best.yaml`` and ``report.html``.

    Raises:
        ConfigError: see :func:`~recbole_mm.tuning.settings.check_settings`; also if the search
            space cannot be used, the folder cannot be written to, or every trial failed.
        Locked: another search is running in the folder.
    """
    check_settings(settings)
    gpus = visible_gpus({**read_layers(files), **fixed})
    jobs = number_of_jobs(settings.jobs, gpus)  # refuses an invalid number of jobs
    parameters = read_search_space(space, fixed)
    if settings.algorithm == "exhaustive":
        refuse_ranges(parameters, space)
    require_writable(out, "Give another --out")
    config = load_config(config_files=files, config_dict=fixed)
    find_or_make(config)
    objective = Objective(fixed, list(files))
    with extra_needed("tune", "tune"):
        from recbole_mm.tuning.report import write_report
        from recbole_mm.tuning.trials import Trials
    refusal = f"another search is running in {out}: wait for it, end it, or give another --out"
    with locked(out / LOCK, refusal), extra_needed("tune", "tune"), quiet_console():
        trials = Trials(
            out / JOURNAL,
            digest(config, PLACES, data=data_hashes(config))[:12],
            parameters,
            settings,
            config["valid_metric_bigger"],
            defaults_of(config, parameters),
            whole_keys(config["model"], [key for kind in parameters.values() for key in kind]),
            lambda line: print(line, flush=True),
        )
        print("\n".join(["searched:", *searched(parameters)]), flush=True)
        _run(trials, objective, settings, jobs, gpus, out)
        if replaced := _of_another_search(out / BEST, trials):
            print(replaced)
        best = _write_best(out / BEST, trials, objective, config, settings.algorithm)
        return best, write_report(trials, config, best, command)


def _run(trials, objective, settings: SearchSettings, jobs: int, gpus: list[str], out: Path):
    if settings.tool == "hyperopt":
        from recbole_mm.tuning.hyperopt_search import run_by_hyperopt

        run_by_hyperopt(trials, objective, settings)
    elif settings.tool == "ray":
        from recbole_mm.tuning.ray_search import run_by_ray

        run_by_ray(trials, objective, settings.jobs)
    else:
        from recbole_mm.tuning.optuna_search import run_by_optuna

        run_by_optuna(trials, objective, jobs, gpus, out)


def defaults_of(config: RunConfig, parameters: dict) -> dict:
    """The default values of the searched keys that have one."""
    keys = [key for of_kind in parameters.values() for key in of_kind]
    return {key: to_plain(config[key]) for key in keys if config[key] is not None}


def whole_keys(model: str, keys: Iterable[str]) -> frozenset[str]:
    """Those of the ``keys`` of a model whose numbers must be whole."""
    forms = forms_for(model)
    return frozenset(
        key for key in keys if key in forms and not any(map(forms[key].accepts, FRACTIONS))
    )


def _of_another_search(path: Path, trials) -> str | None:
    """The message if the file is that of another search."""
    if not path.is_file():
        return None
    text = read_text(path, ConfigError)
    if trials.name in text:
        return None
    score = re.search(r"validation \S+ -?[\d.]+\d", text)
    return (
        f"{path} is replaced; it was the best of another search{f' ({score[0]})' if score else ''}, "
        f"whose command writes it again without training; give --out=FOLDER to keep both"
    )


def _write_best(
    path: Path, trials, objective: Objective, config: RunConfig, algorithm: str
) -> Path:
    ended, best = trials.ended, trials.best()
    seconds = sum(trial.user_attrs["seconds"] for trial in ended)
    layers = [*(read_layers([file]) for file in objective.files), objective.fixed]
    values = merge([*layers, best.user_attrs["point"]], config["model"])
    run_it = shell_line(["recbole-mm", f"--config_files={path}"])
    text = (
        f"# {run_it}\n"
        f"# Best of {algorithm} search, {len(ended)} trials on {objective.fixed['dataset']}, "
        f"{seconds:.0f} s of training in total; "
        f"validation {config['valid_metric']} {best.value:.4f}.\n"
        f"# Search {trials.name} in {path.with_name(JOURNAL)}.\n"
    ) + yaml.safe_dump(values, sort_keys=False)
    write_text(path, text)
    return path
