"""The scripts that write the constraints and run the tests on every Python."""

import importlib.machinery
import importlib.util
import sys
from pathlib import Path

import pytest

from recbole_mm.tools.recbole_version import INSTALL

VERSION = "{}.{}".format(*sys.version_info)


@pytest.fixture
def script(repository):
    def load(name):
        loader = importlib.machinery.SourceFileLoader(name, str(repository / ".ci" / name))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
        loader.exec_module(module)
        return module

    return load


def test_a_package_has_a_line_for_each_of_its_versions(script):
    old, new = {"numpy": "2.2", "six": "1.0", "tomli": "2.5"}, {"numpy": "2.5", "six": "1.0"}

    lines = script("constraints").merge({"3.10": old, "3.12": new, "3.13": new})

    assert lines == [
        'numpy==2.2 ; python_version == "3.10"',
        'numpy==2.5 ; python_version == "3.12" or python_version == "3.13"',
        "recbole==1.2.1",
        "six==1.0",
        "tomli==2.5",
    ]


def test_both_scripts_and_the_package_name_one_recbole(script):
    command = f"pip install {' '.join(script('matrix').RECBOLE)}"

    assert command == INSTALL
    assert command.endswith(f" {script('constraints').RECBOLE}")
    assert script("matrix").PYTHONS == script("constraints").PYTHONS


def test_the_matrix_finds_this_python_and_says_so_if_one_is_missing(script, monkeypatch):
    matrix = script("matrix")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert matrix.find_python(VERSION)

    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PYENV_ROOT", "nowhere")
    row = matrix.test("3.99", "newest", [])
    assert matrix.table([row]).endswith(
        "| 3.99 | newest |  |  | no such Python here |  |  |  |  |  |"
    )


def test_the_matrix_counts_what_pytest_did(script, monkeypatch, tmp_path):
    matrix = script("matrix")
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "FOLDER", tmp_path)
    (tmp_path / "test_four.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "@pytest.mark.skip\ndef test_left_out(): pass\n"
        "@pytest.fixture\ndef broken(): assert False\n"
        "def test_error(broken): pass\n"
    )
    environment = Path(sys.executable).parent.parent

    row = matrix.run_tests(
        environment, ["-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts="]
    )

    assert (row["passed"], row["skipped"], row["failed"]) == (1, 1, 2)
