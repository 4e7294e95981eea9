"""The command ``recbole-mm tune``: search for settings by their validation score.

Every trial is recorded in Optuna's ``journal.log``. The draws follow from a seed and from the trials so
far: the same command resumes, and a larger budget adds trials. Only validation scores are kept:
nothing is chosen by the test.
"""

import argparse
from pathlib import Path

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.prepare.provide import add_download_options, provide_datasets
from recbole_mm.tools.command_lines import shell_line


def main(arguments: list[str]) -> int:
    """Run the command; 0 when the search has ended.

    Raises:
        ConfigError: see :func:`recbole_mm.tuning.search.tune`.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    layers = (options.model, options.dataset, options.config_files)
    provide_datasets(data_settings(*layers, overrides), options)
    from recbole_mm.config.load import load_config
    from recbole_mm.config.models import model_name
    from recbole_mm.run.splits import find_or_make
    from recbole_mm.tuning.search import tune
    from recbole_mm.tuning.search_space import search_space_of
    from recbole_mm.tuning.settings import SearchSettings

    fixed = {"model": options.model, "dataset": options.dataset, "show_progress": False}
    fixed |= overrides
    model = model_name(options.model)
    config = load_config(config_files=options.config_files, config_dict=fixed)
    find_or_make(config)
    best, report = tune(
        fixed,
        Path(options.space or search_space_of(model)),
        Path(options.out or f"tuning/{model}-{options.dataset}"),
        SearchSettings(
            algorithm=options.algorithm,
            budget=options.budget,
            patience=options.patience,
            seed=config["seed"],
            tool=options.tool,
            jobs=options.jobs,
            pruner=options.pruner,
        ),
        options.config_files,
        shell_line(["recbole-mm", "tune", *arguments]),
    )
    print(best.read_text(encoding="utf-8"))
    again = shell_line(["recbole-mm", f"--config_files={best}"])
    print(f"written: {best}\nwritten: {report}\nrun it: {again}")
    return 0


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
        "--budget", type=int, default=20, help="number of trials (20); a grid has its own"
    )
    parser.add_argument(
        "--tool",
        default="optuna",
        help="optuna (default): side by side on this machine; ray: on a cluster; hyperopt: one by one, "
        "by RecBole's HyperTuning",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        help="trials at once (one per GPU, or per core up to 4); 1 makes draws repeatable",
    )
    parser.add_argument(
        "--pruner",
        default="median",
        help="ends trials that lag behind: median (default), asha (successive halving), or none",
    )
    parser.add_argument(
        "--patience", type=int, help="end after so many trials without a better one"
    )
    parser.add_argument("--space", help="file of the search space (properties/tuning/MODEL.hyper)")
    parser.add_argument("--out", help="folder of the trials (tuning/MODEL-DATASET)")
    add_config_files_option(parser)
    add_download_options(parser)
    return parser
