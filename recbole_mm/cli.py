"""The command line, as ``recbole-mm`` and as ``python run_recbole_mm.py``."""

import argparse
import importlib
import sys
import traceback

from recbole_mm import __version__, processes
from recbole_mm.config import ConfigError, parse_overrides, properties_dir, recbole_models
from recbole_mm.data.catalog import described_datasets
from recbole_mm.quick_start import TrainingError, run, run_stages
from recbole_mm.register import MODELS
from recbole_mm.stages import has_stages
from recbole_mm.tables import print_results

OK, RUN_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

COMMON_KEYS = {
    "epochs": "training ends here at the latest (early stopping: stopping_step)",
    "train_batch_size": "examples a step",
    "learning_rate": "of the optimizer, whose name is `learner`",
    "MAX_ITEM_LIST_LENGTH": "how many of the latest items a model sees",
    "modalities": "item features in use: [text, image], [text], ...",
    "use_item_id": "True adds a learned embedding per item to the features",
    "topk": "lengths of the ranking in the metrics: [5, 10, 20]",
    "valid_metric": "what early stopping watches: NDCG@10",
    "seed": "of all random numbers",
    "data_path": "folder of the data sets (dataset/)",
    "checkpoint_dir": "folder of the checkpoints (saved/)",
    "use_gpu": "False keeps a run on the CPU",
    "show_progress": "False hides the progress bars",
}

COMMANDS = {
    "compare": "recbole_mm.compare.command",
    "tune": "recbole_mm.tuning",
    "transfer-report": "recbole_mm.transfer_report",
}
"""Commands beside training, each a module with ``main(arguments) -> exit status``."""

EXAMPLES = """\
examples:
  recbole-mm --model=MMM4Rec --dataset=demo
  recbole-mm --model=MMM4Rec --dataset=ml-100k --epochs=5 --learning_rate=5e-4
  recbole-mm --model=SASRec --dataset=demo --show_progress=False
  recbole-mm compare --models=MMM4Rec,SASRec --dataset=demo --seeds=3
  recbole-mm tune --model=SASRec --dataset=demo --budget=10
  recbole-mm --config_files="mine.yaml more.yaml" --modalities="[text]"
  recbole-mm --config_files=properties/transfer/MMM4Rec_toys.yaml
  recbole-mm transfer-report --config_files=properties/transfer/MMM4Rec_toys.yaml --seeds=3

exit status: 0 done, 1 the run failed, 2 the command, the configuration or the data is wrong,
130 interrupted"""


def main(arguments=None) -> int:
    """Run the command line.

    Args:
        arguments: list of strings, default ``sys.argv[1:]``.

    Returns:
        The exit status: 0 done, 1 the run failed (full disk, a loss that is not a number, ...), 2
        bad usage, configuration or data, 130 interrupted. Any other failure is raised.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in arguments
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted; what is written so far is kept", debug)
    except ConfigError as error:
        return _fail(BAD_INPUT, str(error), debug)
    except (OSError, TrainingError) as error:
        return _fail(RUN_FAILED, str(error), debug)
    finally:
        processes.stop()


def _run(arguments: list[str]) -> int:
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        rest = [argument for argument in arguments[1:] if argument != "--debug"]
        return importlib.import_module(COMMANDS[first]).main(rest)
    if first.isidentifier():
        raise ConfigError(
            f"no command {first!r}: there are {', '.join(COMMANDS)}, and none to train: "
            f"recbole-mm --model=MODEL"
        )
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    layers = (options.model, options.dataset, _files(options))
    if has_stages(_files(options)):
        results = run_stages(*layers, overrides=overrides)
    else:
        results = [run(*layers, overrides=overrides)]
    print_results(results)
    return OK


def _files(options) -> list[str]:
    """RecBole takes the files of ``--config_files`` as one string with spaces between them."""
    return [file for text in options.config_files for file in text.split()]


def _fail(status: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"recbole-mm: error: {message}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm",
        usage="recbole-mm --model=MODEL --dataset=DATASET [--config_files=FILES] [--KEY=VALUE ...]",
        description="Train a sequential recommender, keep its best epoch and test it.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-m", "--model", help="a model's name, see below")
    parser.add_argument("-d", "--dataset", help="a data set's name, see below")
    parser.add_argument(
        "--config_files",
        action="append",
        default=[],
        metavar="FILES",
        help="yaml files with further keys, separated by spaces; later ones win",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"recbole-mm {__version__}")
    return parser


def _epilog() -> str:
    sections = {
        "models:": {**MODELS, "RecBole's": ", ".join(recbole_models("sequential"))},
        "data sets, and how each is made:": described_datasets(),
        f"keys used most (--KEY=VALUE; all of them: {properties_dir()}):": COMMON_KEYS,
    }
    lines = []
    for title, entries in sections.items():
        width = max(map(len, entries))
        lines += [title, *(f"  {name:{width}}  {text}" for name, text in entries.items()), ""]
    return "\n".join(lines) + "\n" + EXAMPLES
