"""What a further model of the package costs: its file and its property file."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from tiny import TINY

from recbole_mm.config.models import BASELINES, MODELS
from recbole_mm.config.property_files import properties_dir

FILES = (
    "recbole_mm/model/sequential_recommender/recentmean.py",
    "properties/model/RecentMean.yaml",
)


def test_every_model_file_has_its_property_file_and_the_other_way_round(repository):
    modules = (repository / "recbole_mm/model/sequential_recommender").glob("[!_]*.py")
    by_module = {path.stem for path in modules}
    files = [
        path for kind in ("model", "baseline") for path in (properties_dir() / kind).glob("*.yaml")
    ]
    by_property_file = {path.stem.lower() for path in files}
    described = {**MODELS, **BASELINES}

    assert sorted(by_module ^ by_property_file) == [], "these lack the other file"
    assert {model.lower() for model in described} == by_module
    assert all(described.values()), "the second line of a property file says what the model is"


def snapshot(folder) -> dict:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_fourth_model_touches_two_files(repository, toy, tmp_path):
    checkout = tmp_path / "checkout"
    for name in ("recbole_mm", "properties"):
        shutil.copytree(repository / name, checkout / name)
    before = snapshot(checkout)
    code = (repository / "examples" / "own_model.py").read_text()
    settings = (repository / "examples" / "RecentMean.yaml").read_text()
    (checkout / FILES[0]).write_text(code)
    (checkout / FILES[1]).write_text(f"# command\n# The mean of the latest items.\n{settings}")

    options = {"model": "RecentMean", **toy, **TINY, "epochs": 1, "n_recent": 2}
    options.pop("inner_size")
    program = "import sys; from recbole_mm.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program]
    run = {"env": {**os.environ, "PYTHONPATH": str(checkout)}, "capture_output": True, "text": True}
    done = subprocess.run(
        [*command, *(f"--{key}={value}" for key, value in options.items())], check=False, **run
    )
    helped = subprocess.run([*command, "--help"], check=True, **run)

    assert done.returncode == 0, done.stderr
    assert "RecentMean on toy" in done.stdout
    assert re.search(r"RecentMean +The mean of the latest items\.", helped.stdout)
    after = snapshot(checkout)
    touched = {name for name in before | after if before.get(name) != after.get(name)}
    assert touched == set(FILES)
