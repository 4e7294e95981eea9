"""The command that trains: ``recbole-mm --model=MODEL --dataset=DATASET``."""

import argparse
import sys

from recbole_mm.commands import COMMANDS
from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import BASELINES, MODELS, recbole_models
from recbole_mm.config.property_files import properties_dir, read_layers
from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.prepare.catalog import described_datasets
from recbole_mm.prepare.provide import add_download_options, provide_datasets

COMMON_KEYS = {
    "epochs": "maximum number of epochs (early stopping: stopping_step)",
    "train_batch_size": "examples per step",
    "learning_rate": "learning rate of the optimizer, which `learner` names",
    "MAX_ITEM_LIST_LENGTH": "number of latest items that a model reads",
    "modalities": "item features in use: [text, image], [text], ...",
    "use_item_id": "True adds a learned embedding per item to the features",
    "topk": "list lengths k of the metrics: [5, 10, 20]",
    "valid_metric": "metric for early stopping: NDCG@10",
    "seed": "random seed",
    "data_path": "folder of the data sets (dataset/)",
    "checkpoint_dir": "folder of the checkpoints (saved/)",
    "use_gpu": "False keeps a run on the CPU",
    "show_progress": "False hides the progress bars",
}

OWN_MODELS = "--model=my_module:MyModel for the class MyModel in my_module.py"

EXAMPLES = """\
examples:
  recbole-mm --model=MMM4Rec --dataset=demo
  recbole-mm --model=MMM4Rec --dataset=ml-100k --epochs=5 --learning_rate=5e-4
  recbole-mm --model=MMM4Rec --dataset=Pantry --download
  recbole-mm --model=SASRec --dataset=demo --show_progress=False
  recbole-mm compare --models=MMM4Rec,SASRec --dataset=demo --seeds=3
  recbole-mm tune --model=SASRec --dataset=demo --budget=10
  recbole-mm --config_files=mine.yaml --config_files=more.yaml --modalities="[text]"
  recbole-mm --config_files=transfer/MMM4Rec_demo.yaml
  recbole-mm transfer-report --config_files=transfer/MMM4Rec_toys.yaml --seeds=3

exit status: 0 done, 1 the run failed, 2 the command, the configuration or the data is wrong,
130 after Ctrl-C, 141 if nobody reads the output anymore, 143 after SIGTERM, 70 a bug, which is
shown with a request to report it"""


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        UserError: the configuration or the data cannot be used; nothing was trained.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    if "stages" in overrides:
        raise ConfigError(
            "--stages is not an option: list the stages in a yaml file and give --config_files=FILE"
        )
    layers = (options.model, options.dataset, options.config_files)
    stages = "stages" in read_layers(options.config_files)
    missing = provide_datasets(
        data_settings(*layers, overrides), options, lambda: _check(layers, overrides, stages)
    )
    from recbole_mm.run.result_tables import print_results
    from recbole_mm.run.run import run
    from recbole_mm.run.stages import run_stages

    if stages:
        results = run_stages(*layers, overrides=overrides)
    else:
        results = [run(*layers, overrides=overrides)]
    print_results(results)
    for line in missing:
        print(line, file=sys.stderr)
    return 0


def _check(layers, overrides: dict, stages: bool) -> None:
    """Refuse a configuration that cannot run before its data are downloaded."""
    from recbole_mm.config.load import load_config
    from recbole_mm.run.stages import plan_stages

    model, dataset, files = layers
    check = plan_stages if stages else load_config
    check(model, dataset, files, overrides=overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm",
        usage="recbole-mm --model=MODEL --dataset=DATASET [--config_files=FILE] [--KEY=VALUE ...]",
        description="Train a sequential recommender, keep its best epoch and test it.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", help="a model's name, see below")
    parser.add_argument("-d", "--dataset", help="a data set's name, see below")
    add_config_files_option(parser)
    add_download_options(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _epilog() -> str:
    sections = {
        "models:": {
            **MODELS,
            **BASELINES,
            "RecBole's": ", ".join(recbole_models("sequential")),
            "your own": OWN_MODELS,
        },
        "data sets, and how each is created:": described_datasets(),
        f"keys used most (--KEY=VALUE; all of them: {properties_dir()}):": COMMON_KEYS,
        "other commands (recbole-mm COMMAND --help):": {
            name: command.summary for name, command in COMMANDS.items() if name != "train"
        },
    }
    lines = []
    for title, entries in sections.items():
        width = max(map(len, entries))
        lines += [title, *(f"  {name:{width}}  {text}" for name, text in entries.items()), ""]
    return "\n".join(lines) + "\n" + EXAMPLES
