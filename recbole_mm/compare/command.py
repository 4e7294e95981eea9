"""The command ``recbole-mm compare``."""

import argparse
from contextlib import nullcontext
from pathlib import Path

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.values import parse_flag, parse_overrides
from recbole_mm.prepare.provide import add_download_options, provide_datasets
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.extras import extra_needed, require_installed

DESCRIPTION = "Compare models on one split: runs, uncertainty, slices, and a report to read."
EPILOG = """\
an entry of --models is [NAME=]MODEL[@FILE.yaml][+KEY=VALUE...]; MODEL@tuned takes properties/tuned/:
  recbole-mm compare --models=MMM4Rec,MMM4Rec+use_item_id=False,SASRec --dataset=demo --seeds=5
A|B adds the scores of two entries, which must be listed too:
  --models='MMM4Rec,SASRecPlus,MMM4Rec|SASRecPlus'
A|seeds adds the scores of the runs of A with all seeds:
  --models='MMM4Rec,MMM4Rec|seeds'

Every entry runs with the first seed, then every entry with the second, and so on. A finished run is
not repeated: the same command resumes. With --report_only it runs nothing and reports on what has
finished, even while another command runs the rest. A failed run does not stop the others. The
report and all ranks are written to --out."""


def main(arguments: list[str]) -> int:
    """Run the command.

    Returns:
        0 if every run has finished, 1 if some have not (the report covers the others).

    Raises:
        ConfigError: wrong usage, an unknown model or missing data; nothing has run.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    whole = {**overrides, "benchmark_filename": None}  # compare refuses it below
    provide_datasets(data_settings(dataset=options.dataset, overrides=whole), options)
    with extra_needed("compare", "report"):
        from recbole_mm.compare.comparison import run_comparison
        from recbole_mm.compare.entries import parse_ensembles, parse_entries, parse_lists
        from recbole_mm.compare.examples import examples
        from recbole_mm.compare.exports import entries_no_longer_reported, write_trec
        from recbole_mm.compare.report import write_report
        from recbole_mm.compare.report_tables import text_table
        from recbole_mm.compare.settings import Settings, configurations
        from recbole_mm.run.jobs import number_of_jobs, parse_seeds, visible_gpus

    entries = parse_entries(options.models)
    settings = Settings(
        entries=entries,
        ensembles=parse_ensembles(options.models),
        lists=parse_lists(options.lists),
        dataset=options.dataset,
        seeds=parse_seeds(options.seeds),
        baseline=options.baseline or entries[-1].label,
        protocol=options.protocol,
        mask_seen=parse_flag("--mask_seen", options.mask_seen),
        metric=options.metric,
        topk=_as_list(overrides.get("topk", [5, 10, 20])),
        overrides=overrides,
        out=Path(options.out or f"compare/{options.dataset}-{options.protocol}"),
    )
    gpus = visible_gpus(overrides)
    jobs = number_of_jobs(options.jobs, gpus)
    configs = configurations(settings)
    with _remote(options) as remote:
        summary = run_comparison(
            settings,
            configs,
            gpus,
            remote.jobs if remote else jobs,
            lambda line: print(line, flush=True),
            options.report_only,
            remote,
        )
    print(text_table(summary))
    command = shell_line(["recbole-mm", "compare", *arguments])
    try:
        shown = examples(summary.ranks, next(iter(configs.values())))
    except (ValueError, KeyError) as error:  # the numbers do not depend on them
        print(f"no examples in the report: {error}")
        shown = []
    lost = entries_no_longer_reported(summary, settings.out / "numbers.csv")
    if lost:
        print(
            f"the report in {settings.out} is replaced and no longer includes {', '.join(lost)}: "
            f"the runs are kept; give --out=FOLDER to keep both reports"
        )
    paths = write_report(summary, command, shown)
    if options.trec:
        paths += write_trec(summary.ranks.collect(), settings.out / "trec")
    shown_paths = [path for path in paths if path.parent == settings.out]
    folders = dict.fromkeys(path.parent for path in paths if path.parent != settings.out)
    for path in [*shown_paths, *folders]:
        print(f"written: {path}")
    return 1 if summary.failures else 0


def _remote(options):
    """A context manager: the place for the runs, ``None`` for this machine."""
    if options.tool is None or options.report_only:
        return nullcontext()
    require_installed("compare --tool=ray", "tune", ["ray"])
    from recbole_mm.compare.ray_runs import on_ray

    return on_ray(options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm compare",
        usage="recbole-mm compare --models=A,B,... --dataset=DATASET [--seeds=N] [--KEY=VALUE ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--models", required=True, help="entries, separated by commas")
    parser.add_argument("--dataset", "-d", required=True, help="name of a data set")
    parser.add_argument(
        "--seeds", default="3", help="number of seeds, or a list: [1, 7] (default 3)"
    )
    parser.add_argument(
        "--baseline", help="entry that the others are compared with (default: the last model)"
    )
    parser.add_argument(
        "--lists",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="lists of another tool as another entry: a table (user, item, rank or score) or a "
        "TREC run; repeatable",
    )
    parser.add_argument(
        "--protocol",
        default="leave_one_out",
        help="split: leave_one_out (default), temporal or cold_start",
    )
    parser.add_argument(
        "--metric", default="NDCG@10", help="metric for tests and slices (default NDCG@10)"
    )
    parser.add_argument(
        "--mask_seen", default="False", help="True: items of the history are not candidates at test"
    )
    parser.add_argument(
        "--report_only", action="store_true", help="run nothing; report on what has finished so far"
    )
    parser.add_argument(
        "--trec", action="store_true", help="also write lists and targets as TREC runs and qrels"
    )
    parser.add_argument(
        "--tool",
        choices=["ray"],
        help="distribute the runs over a ray cluster (RAY_ADDRESS) whose nodes have the data set "
        "under the same path (default: processes on this machine)",
    )
    parser.add_argument("--jobs", type=int, help="runs at once (default: one per GPU, or per core)")
    parser.add_argument(
        "--out", help="folder of the runs and the report (default compare/DATASET-PROTOCOL)"
    )
    add_download_options(parser)
    return parser


def _as_list(value) -> list:
    return list(value) if isinstance(value, (list, tuple)) else [value]
