"""The command ``recbole-mm tune``: search for settings by their validation score.

Every trial is recorded in Optuna's ``journal.log``. The draws follow from a seed and from the trials so
far: the same command resumes, and a larger budget adds trials. Only validation scores are kept:
nothing is chosen by test scores.
"""

import argparse
from pathlib import Path

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.prepare.provide import add_download_options, provide_datasets
from recbole_mm.tools.command_lines import path_argument, shell_line
from recbole_mm.tuning.settings import SearchSettings, check_settings


def main(arguments: list[str]) -> int:
    """Run the command; return 0 when the search has ended.

    Raises:
        ConfigError: see :func:`recbole_mm.tuning.search.tune`.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    settings = _settings(options)
    layers = (options.model, options.dataset, options.config_files)
    provide_datasets(data_settings(*layers, overrides), options)
    from recbole_mm.config.load import load_config
    from recbole_mm.config.models import model_name
    from recbole_mm.tuning.search import tune
    from recbole_mm.tuning.search_space import search_space_of

    fixed = {"model": options.model, "dataset": options.dataset, **overrides}
    model = model_name(options.model)
    config = load_config(config_files=options.config_files, overrides=fixed)
    best, report = tune(
        fixed,
        options.space or search_space_of(model),
        options.out or Path(f"tuning/{model}-{options.dataset}"),
        settings._replace(seed=config["seed"]),
        options.config_files,
        shell_line(["recbole-mm", "tune", *arguments]),
    )
    print(best.read_text(encoding="utf-8"))
    again = shell_line(["recbole-mm", f"--config_files={best}"])
    print(f"written: {best}\nwritten: {report}\nrun it: {again}")
    return 0


def _settings(options: argparse.Namespace) -> SearchSettings:
    if options.tool == "hyperopt" and options.pruner not in (None, "none"):
        raise ConfigError(f"--pruner={options.pruner}: --tool=hyperopt does not prune")
    if options.algorithm == "exhaustive" and options.patience is not None:
        raise ConfigError("--patience: --algorithm=exhaustive runs the whole grid")
    settings = SearchSettings(
        algorithm=options.algorithm,
        budget=options.budget,
        patience=options.patience,
        tool=options.tool,
        jobs=options.jobs,
        pruner=options.pruner or SearchSettings().pruner,
    )
    check_settings(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm tune",
        usage="recbole-mm tune --model=MODEL --dataset=DATASET [--budget=N] [--KEY=VALUE ...]",
        description="Search for settings by their validation score. A finished trial is not "
        "repeated: the same command resumes, a larger budget adds trials. A key that is given on "
        "the command line is not searched.",
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", required=True, help="name of a model")
    parser.add_argument("-d", "--dataset", required=True, help="name of a data set")
    parser.add_argument(
        "--algorithm",
        default="bayes",
        help="bayes (default; tree-structured Parzen estimator), random, or exhaustive: the grid",
    )
    parser.add_argument(
        "--budget", type=int, default=20, help="number of trials (20); a grid has its own number"
    )
    parser.add_argument(
        "--tool",
        default="optuna",
        help="optuna (default): in parallel on this machine; ray: on a cluster; hyperopt: one by "
        "one, by RecBole's HyperTuning",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="trials at once (one per GPU, or per core up to 4); 1 makes draws repeatable",
    )
    parser.add_argument(
        "--pruner",
        help="stops trials that lag behind: median (default), asha (successive halving), or none",
    )
    parser.add_argument(
        "--patience", type=int, help="stop after this many trials without a better one"
    )
    parser.add_argument(
        "--space",
        type=path_argument,
        help="file of the search space (properties/tuning/MODEL.hyper)",
    )
    parser.add_argument(
        "--out", type=path_argument, help="folder of the trials (tuning/MODEL-DATASET)"
    )
    add_config_files_option(parser)
    add_download_options(parser)
    return parser
