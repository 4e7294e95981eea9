"""RecBole is installed apart from this package: what happens where it is missing or another one."""

import os
import subprocess
import sys
import textwrap

import pytest

from recbole_mm.tools.recbole_version import INSTALL, RecBoleError, refuse_unknown_version

WITHOUT_RECBOLE = """
import importlib.machinery
import sys

find_spec = importlib.machinery.PathFinder.find_spec

def find_others(fullname, *args):
    return None if fullname.partition(".")[0] == "recbole" else find_spec(fullname, *args)

importlib.machinery.PathFinder.find_spec = staticmethod(find_others)
"""
COMMANDS = (
    ("train", "--model=SASRec", "--dataset=demo"),
    ("compare", "--models=SASRec,GRU4Rec", "--dataset=demo"),
    ("tune", "--model=SASRec", "--dataset=demo"),
    ("serve", "demo"),
    ("recommend", "--model=model.pth", "--output=top.csv"),
    ("export", "model.pth", "bundle"),
    ("transfer-report", "--config_files=transfer/MMM4Rec_demo.yaml"),
)


def python(program, folder, **environment):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_every_command_names_the_line_that_installs_recbole(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"")
    program = f"""
{WITHOUT_RECBOLE}
from recbole_mm.cli import main

print([main(list(command)) for command in {COMMANDS}])
assert main(["--version"]) == 0
"""
    done = python(program, tmp_path)

    assert done.stdout.startswith(str([2] * len(COMMANDS)))
    error = f"recbole-mm: error: RecBole is not installed: {INSTALL}\n"
    assert done.stderr == error * len(COMMANDS)


def test_what_is_imported_names_the_line_that_installs_recbole(tmp_path):
    program = f"""
{WITHOUT_RECBOLE}
import recbole_mm

for name in ("quick_start", "register", "recommend.recommender", "training.trainer"):
    try:
        __import__("recbole_mm." + name)
    except ImportError as error:
        assert str(error) == "RecBole is not installed: {INSTALL}", error
    else:
        raise AssertionError(name)
try:
    import recbole.quick_start
except ModuleNotFoundError as error:
    assert "{INSTALL}" in str(error)
"""
    python(program, tmp_path)


@pytest.mark.parametrize("first", ["recbole", "recbole_mm"])
def test_an_older_recbole_is_refused_whatever_is_imported_first(tmp_path, first):
    (tmp_path / "recbole").mkdir()
    (tmp_path / "recbole/__init__.py").write_text("__version__ = '1.1.1'\n")
    program = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        import {first}
        for _ in range(2):  # also by an import that follows a failed one
            try:
                import recbole_mm
                import recbole
            except ImportError as error:
                assert str(error) == "RecBole 1.1.1 is installed, 1.2 is needed: {INSTALL}", error
            else:
                raise AssertionError
    """
    python(program, tmp_path)


def test_a_later_release_of_recbole_1_2_is_accepted_and_1_20_is_not():
    refuse_unknown_version("1.2.9")
    with pytest.raises(RecBoleError, match="RecBole 1.20.0 is installed"):
        refuse_unknown_version("1.20.0")
