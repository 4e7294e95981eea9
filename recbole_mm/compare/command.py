r"""The command ``recbole-mm compare``."""

import argparse
import logging
import shlex
from pathlib import Path

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import parse_overrides, parse_value
from recbole_mm.run.jobs import number_of_jobs, parse_seeds, visible_gpus

DESCRIPTION = "Compare models on one split: runs, uncertainty, slices, and a report to read."
EPILOG = """\
an entry of --models is MODEL[@FILE.yaml][+KEY=VALUE...]; MODEL@tuned takes properties/tuned/:
  recbole-mm compare --models=MMM4Rec,MMM4Rec+use_item_id=False,SASRec --dataset=demo --seeds=5

Every entry runs with the first seed, then every entry with the second, and so on. A finished run is
not repeated: the same command goes on where it was, and with --report_only it reports on what has
finished, also while the other is running. A run that fails does not end the others. The report and
all ranks are written to --out."""


def main(arguments: list[str]) -> int:
    """Run the command.

    Returns:
        0 when every run has finished, 1 when some have not (the report is about the others).

    Raises:
        ConfigError: wrong usage, an unknown model, data that are missing: nothing has run then.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    try:
        from recbole_mm.compare.comparison import Settings, check, run_comparison
        from recbole_mm.compare.entries import parse_entries
        from recbole_mm.compare.examples import examples
        from recbole_mm.compare.report import text_table, write_report
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"compare needs {error.name}: pip install 'recbole_mm[report]'"
        ) from error

    entries = parse_entries(options.models)
    out = options.out or f"compare/{options.dataset}-{options.protocol}"
    settings = Settings(
        entries=entries,
        dataset=options.dataset,
        seeds=parse_seeds(options.seeds),
        baseline=options.baseline or entries[-1].label,
        protocol=options.protocol,
        mask_seen=_flag(options.mask_seen),
        metric=options.metric,
        topk=_lengths(overrides.get("topk", [5, 10, 20])),
        overrides=overrides,
        out=Path(out),
    )
    logging.disable(logging.INFO)  # RecBole's lines on every configuration
    gpus = visible_gpus(overrides.get("gpu_id"))
    jobs = number_of_jobs(options.jobs, gpus)
    configs = check(settings)
    summary = run_comparison(
        settings, configs, gpus, jobs, lambda line: print(line, flush=True), options.report_only
    )
    print(text_table(summary))
    command = " ".join(["recbole-mm compare", *map(shlex.quote, arguments)])
    try:
        shown = examples(summary.ranks, next(iter(configs.values())))
    except (ValueError, KeyError) as error:  # the numbers do not depend on them
        print(f"no examples in the report: {error}")
        shown = []
    for path in write_report(summary, command, shown):
        print(f"written: {path}")
    return 1 if summary.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm compare",
        usage="recbole-mm compare --models=A,B,... --dataset=DATASET [--seeds=N] [--KEY=VALUE ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", required=True, help="entries, with commas between them")
    parser.add_argument("--dataset", "-d", required=True, help="name of a data set")
    parser.add_argument("--seeds", default="3", help="how many, or a list [1, 7] (3)")
    parser.add_argument("--baseline", help="entry that the others are tested against (the last)")
    parser.add_argument(
        "--protocol", default="leave_one_out", help="leave_one_out, temporal or cold_start"
    )
    parser.add_argument("--metric", default="NDCG@10", help="of tests and slices (NDCG@10)")
    parser.add_argument("--mask_seen", default="False", help="True: no item is offered again")
    parser.add_argument(
        "--report_only", action="store_true", help="run nothing; report on what has finished so far"
    )
    parser.add_argument("--jobs", type=int, help="processes at once (one per GPU, or per core)")
    parser.add_argument("--out", help="folder of runs and report (compare/DATASET-PROTOCOL)")
    return parser


def _lengths(value) -> list[int]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _flag(text: str) -> bool:
    value = parse_value(text)
    if not isinstance(value, bool):
        raise ConfigError(f"--mask_seen={text}: give True or False")
    return value
