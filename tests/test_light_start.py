"""A command imports what it needs, when it needs it: help and mistakes come at once."""

import subprocess
import sys

import pytest

from recbole_mm.commands import COMMANDS

HEAVY = ("torch", "recbole", "sklearn", "polars", "pandas", "matplotlib", "transformers")

REPORT = """
import sys
from recbole_mm.cli import main
try:
    status = main(sys.argv[1:])
except SystemExit as end:
    status = end.code
print(status, *sorted(set(sys.modules) & set({heavy!r})), sep=",")
"""


def status_and_heavy_modules(*arguments):
    """Exit status of a command in a process of its own, and the heavy modules that it imported."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(heavy=HEAVY), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    status, *modules = done.stdout.splitlines()[-1].split(",")
    return int(status), [module for module in modules if module]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_imports_nothing_heavy(command):
    assert status_and_heavy_modules(command, "--help") == (0, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["prepar"],
        ["prepare", "no folder"],
        ["prepare", "--interactions=no.csv"],
        ["extract", "Toyz"],
        ["inspect", "Toyz"],
        ["mix", "Both", "Toyz", "Toys"],
        ["amazon", "Video_Gamez"],
        ["amazon", "Pantry"],
        ["--model=MMM4Rec", "--dataset=Pantri"],
        ["--model=MMM4Rec", "--dataset=Pantry", "--epochs=3"],
        ["--config_files=transfer/MMM4Rec_FHCKM.yaml"],
        ["compare", "--models=MMM4Rec,SASRec", "--dataset=Pantri"],
        ["tune", "--model=SASRec", "--dataset=Pantry"],
        ["transfer-report", "--config_files=transfer/MMM4Rec_FHCKM.yaml"],
        ["convert", "missrec", "no folder"],
        ["recommend", "--model=no.pth", "--output=top.csv"],
        ["similar", "--model=no.pth", "--output=similar.csv"],
        ["similar", "--model=no.pth", "--output=similar.csv", "--k=0"],
        ["serve", "demo", "--port=99999"],
        ["compare", "--models=SASRec"],
        ["compare", "--models=SASRec", "--dataset=demo", "seeds=1"],
        ["tune", "--model=SASRec", "--dataset=demo", "epochs=1"],
        ["transfer-report", "--config_files=stages.yaml", "seeds=1"],
    ],
)
def test_a_mistake_is_found_before_anything_heavy_is_imported(arguments):
    status, modules = status_and_heavy_modules(*arguments)

    assert status == (0 if arguments == ["--version"] else 2)
    assert modules == []
