"""The command ``recbole-mm transfer-report``: the effect of pre-training, against its controls."""

import argparse
from pathlib import Path

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import add_config_files_option, parse_flag, parse_overrides
from recbole_mm.prepare.provide import add_download_options, provide_datasets
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.extras import extra_needed
from recbole_mm.tools.files import require_writable

DESCRIPTION = """\
Compare transfer with its controls on each target of a file of stages: trained from scratch,
transferred with a frozen encoder, transferred and trained as a whole (unfrozen), tested as
pre-trained (zero-shot), and tested with random weights over the same features (untrained); in
addition popularity and the nearest neighbors by each modality, which need no training, alone and
added to the starts that are tested without training."""

EPILOG = """\
examples:
  recbole-mm transfer-report --config_files=transfer/MMM4Rec_demo.yaml --seeds=5
  recbole-mm transfer-report --config_files=transfer/MMM4Rec_toys.yaml --sizes=0.05,0.1,0.25,0.5,1 \\
      --new_items=0.1 --learning_rates=3e-4,1e-3,3e-3
  recbole-mm transfer-report --config_files=mine.yaml --leave_one_out_domains="[Food, Home, CDs]"

Give --seeds=5 for numbers to publish. A finished stage is not repeated: the same command resumes."""


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: wrong usage, or stages that :func:`recbole_mm.run.stages.plan_stages` refuses.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    with extra_needed("transfer-report", "report"):
        from recbole_mm.run.jobs import parse_seeds
        from recbole_mm.transfer_report.settings import (
            Settings,
            parse_learning_rates,
            parse_sizes,
            refuse_contradictions,
        )

    if options.out == "":
        raise ConfigError("--out=: give the name of a folder for the report")
    compared = Settings(
        config_files=options.config_files,
        overrides=overrides,
        seeds=parse_seeds(options.seeds),
        sizes=parse_sizes(options.sizes),
        new_items=options.new_items,
        learning_rates=parse_learning_rates(options.learning_rates),
        steps=options.steps,
        metric=options.metric,
        mask_seen=parse_flag("--mask_seen", options.mask_seen),
        out=Path(options.out or Path("transfer", Path(options.config_files[-1]).stem)),
    )
    refuse_contradictions(compared)
    provide_datasets(data_settings(config_files=options.config_files, overrides=overrides), options)
    require_writable(compared.out, "Give another --out")
    with extra_needed("transfer-report", "report"):
        from recbole_mm.transfer_report.report import text_report, write_report
        from recbole_mm.transfer_report.study import run_study
        from recbole_mm.transfer_report.summary import summarize

    study = run_study(compared, lambda line: print(line, flush=True))
    blocks = summarize(study)
    command = shell_line(["recbole-mm", "transfer-report", *arguments])
    paths = write_report(study, blocks, command)
    print(text_report(study, blocks))
    folders = dict.fromkeys(path.parent for path in paths if path.parent != compared.out)
    for path in [*(path for path in paths if path.parent == compared.out), *folders]:
        print(f"written: {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm transfer-report",
        usage="recbole-mm transfer-report --config_files=FILE [--seeds=N] [--KEY=VALUE ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_config_files_option(parser, required=True)
    parser.add_argument(
        "--seeds", default="3", help="number of seeds, or a list: [1, 7] (default 3)"
    )
    parser.add_argument(
        "--sizes",
        default="1",
        help="shares of the target's users that are trained on, e.g. 0.05,0.1,0.25,0.5,1; all users "
        "are tested (default 1)",
    )
    parser.add_argument(
        "--new_items",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="also train without this share of the items, and test only on them (default 0: off)",
    )
    parser.add_argument(
        "--learning_rates",
        help="learning rates that every start tries with the first seed, e.g. 3e-4,1e-3,3e-3; "
        "validation chooses one (default: the configured one)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        help="optimizer steps of every trained start (default: those of the configured epochs on all "
        "users)",
    )
    parser.add_argument(
        "--metric", default="NDCG@10", help="metric for tests and intervals (default NDCG@10)"
    )
    parser.add_argument(
        "--mask_seen", default="False", help="True: items of the history are not candidates at test"
    )
    parser.add_argument(
        "--out", help="folder of the report (default transfer/NAME, after the file of stages)"
    )
    add_download_options(parser)
    return parser
