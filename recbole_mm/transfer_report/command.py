"""The command ``recbole-mm transfer-report``: what pre-training brings, against its controls."""

import argparse
from pathlib import Path

from recbole_mm.config.data_settings import data_settings
from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.prepare.provide import add_download_options, provide_datasets
from recbole_mm.tools.extras import extra_needed
from recbole_mm.tools.files import require_writable

DESCRIPTION = """\
Compare transfer with its controls on each target of a file of stages: trained from scratch,
transferred with a frozen encoder, transferred and trained as a whole (unfrozen), tested as
pre-trained (zero-shot), and tested with random weights over the same features (untrained)."""


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        ConfigError: wrong usage, or whatever :func:`recbole_mm.run.stages.run_stages` refuses.
    """
    options, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    settings = data_settings(config_files=options.config_files, overrides=overrides)
    provide_datasets(settings, options)
    out = Path(options.out)
    require_writable(out, "Give another --out")
    with extra_needed("transfer-report", "report"):
        from recbole_mm.run.jobs import parse_seeds
        from recbole_mm.transfer_report.report import report_table, write_report
        from recbole_mm.transfer_report.variants import run_variants

    variants = run_variants(options.config_files, parse_seeds(options.seeds), overrides)
    for path in write_report(variants, out):
        print(f"written: {path}")
    print(report_table(variants))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm transfer-report",
        usage="recbole-mm transfer-report --config_files=FILE [--seeds=N] [--KEY=VALUE ...]",
        description=DESCRIPTION,
        epilog="A finished stage is not repeated: the same command resumes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_config_files_option(parser, required=True)
    parser.add_argument("--seeds", default="3", help="how many, or a list [1, 7] (default 3)")
    parser.add_argument("--out", default="transfer", help="folder of the report (default transfer)")
    add_download_options(parser)
    return parser
