"""The examples run as they stand, and show what they claim."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def run_example(repository, tmp_path, python):
    """Runs a script of the examples in a folder, with this checkout as the installed command."""
    commands = tmp_path / "bin"
    commands.mkdir()
    command = [*python, str(repository / "run_recbole_mm.py")]
    for name, words in (("recbole-mm", command), ("python", [sys.executable])):
        path = commands / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        path.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(repository),
    }

    def run(name: str, folder: str) -> str:
        done = subprocess.run(
            ["sh", repository / "examples" / name, folder],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_from_a_csv_to_a_report(run_example):
    run_example("own_data.sh", "shop")

    report = Path("shop/compare/Shop-leave_one_out")
    assert "MMM4Rec" in (report / "report.html").read_text(encoding="utf-8")
    ranks = pl.read_parquet(report / "ranks.parquet")
    assert ranks.filter(pl.col("features") == "all").group_by("label", "seed").len().height == 4


def test_a_new_shop_starts_from_the_bundle_of_another_one(run_example):
    printed = run_example("start_from_bundle.sh", "shops")

    assert "started from bundles/Mall" in printed
    assert "It represents its items by features alone" in printed  # the card of the bundle
    assert "MMM4Rec on Shop" in printed
