"""The examples run as they stand, and show what they claim."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.slow


def test_from_a_csv_to_a_report(repository, tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in (("recbole-mm", f'"{repository}/run_recbole_mm.py"'), ("python", "")):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {script} "$@"\n')
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(repository),
    }

    done = subprocess.run(
        ["sh", repository / "examples" / "own_data.sh", "shop"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    report = Path("shop/compare/Shop-leave_one_out")
    assert "MMM4Rec" in (report / "report.html").read_text(encoding="utf-8")
    ranks = pl.read_parquet(report / "ranks.parquet")
    assert ranks.filter(pl.col("features") == "all").group_by("label", "seed").len().height == 4
