"""The examination of an installation: what is there, what is missing, and whether RecBole is as expected."""

import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import recbole

from recbole_mm.cli import main
from recbole_mm.doctor import requirements
from recbole_mm.integration import patches, recbole_checkpoints, register
from recbole_mm.integration.patch_list import AFTER_IMPORT, BEFORE_IMPORT, Patch

PATCHES = (*BEFORE_IMPORT, *AFTER_IMPORT)
NEEDS = [pytest.param(patch, need, id=need) for patch in PATCHES for need in patch.needs]


@pytest.fixture
def required(monkeypatch):
    """Sets the requirements in the metadata of this package."""

    def require(*lines):
        monkeypatch.setattr(requirements, "requires", lambda _: ["numpy>=1", *lines])

    require()
    return require


def examined(capsys, *options):
    """Exit status and output of the command."""
    status = main(["doctor", *options])
    return status, capsys.readouterr().out


@pytest.mark.usefixtures("required")
def test_an_installation_that_works_has_no_problems(capsys):
    status, out = examined(capsys)

    assert status == 0
    for words in (
        f"recbole  {recbole.__version__}",
        "device       ",
        "ssd_backend  torch",
        "threads",
    ):
        assert words in out
    assert f"patches of RecBole: {len(PATCHES)} of {len(PATCHES)} apply" in out
    assert out.endswith("\nno problems\n")


def test_the_report_for_a_bug_is_json_without_paths(required, capsys):
    required("no-such-package>=2; extra == 'more'", "numpy>=1; extra == 'more'")

    status, out = examined(capsys, "--json")

    found = json.loads(out)
    assert status == 0
    assert found["packages"]["recbole"] == recbole.__version__
    assert found["problems"] == []
    assert found["extras"]["more"]["problems"] == ["no-such-package"]
    assert [patch["name"] for patch in found["patches"]] == [patch.name for patch in PATCHES]
    assert str(Path.home()) not in out and str(Path.cwd()) not in out and sys.prefix not in out


def test_a_needed_package_that_is_missing_or_too_old_has_its_install_line(required, capsys):
    required("no-such-package>=2", "pandas>=999", "never; python_version < '3'")

    status, out = examined(capsys)

    assert status == 1
    assert "problem: no-such-package is not installed: pip install 'no-such-package>=2'" in out
    assert ">=999 is needed: pip install 'pandas>=999'" in out
    assert "never" not in out


def test_a_needed_package_that_is_installed_but_cannot_be_imported_is_a_problem(
    required, capsys, monkeypatch
):
    required("pillow>=10", "polars>=1")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "polars", None)

    status, out = examined(capsys)

    assert status == 1
    assert "problem: pillow cannot be imported: import of PIL halted" in out
    assert "problem: polars cannot be imported: import of polars halted" in out


def test_every_needed_package_has_a_module():
    for package in requirements.needed_packages():
        assert find_spec(package.module) is not None, package.name


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("cannot import name 'x' from 'os' (/home/me/os.py)", "cannot import name 'x' from 'os'"),
        (
            r"cannot import name 'x' from 'os' (C:\Users\me\os.py)",
            "cannot import name 'x' from 'os'",
        ),
        ("/home/me/libtorch.so: undefined symbol: _x", "libtorch.so: undefined symbol: _x"),
        ("see https://numpy.org/doc for and/or", "see https://numpy.org/doc for and/or"),
    ],
)
def test_what_a_package_says_of_its_failure_is_shown_without_paths(
    message, shown, required, capsys, monkeypatch
):
    import_module = importlib.import_module

    def fail(name, package=None):
        if name == "polars":
            raise ImportError(message)
        return import_module(name, package)

    required("polars>=1")
    monkeypatch.setattr(importlib, "import_module", fail)

    _, out = examined(capsys, "--json")

    assert json.loads(out)["problems"] == [f"polars cannot be imported: {shown}"]


def test_an_extra_that_is_missing_is_no_problem_and_has_its_install_line(required, capsys):
    required(
        "no-such-package; extra == 'more'",
        "numpy>=999; extra == 'more'",
        "numpy; extra == 'some'",
        "no-such-package; extra == 'dev'",
    )

    status, out = examined(capsys)

    assert status == 0
    (more,) = (line for line in out.splitlines() if line.startswith("  more"))
    assert "missing no-such-package, numpy" in more and "(>=999 is needed)" in more
    assert more.endswith("pip install 'recbole_mm[more]'")
    assert any(line.split() == ["some", "ok"] for line in out.splitlines())
    assert not any(line.split()[:1] == ["dev"] for line in out.splitlines())


def test_a_checkout_that_is_not_installed_is_examined_too(monkeypatch, capsys):
    def unknown(name):
        raise requirements.PackageNotFoundError(name)

    monkeypatch.setattr(requirements, "requires", unknown)

    status, out = examined(capsys)

    assert status == 0
    assert "extras: unknown, recbole_mm is not installed with pip" in out


def owner_of(need):
    """The object that has the last name of a need, and that name."""
    place = need.partition(" uses ")[0]
    module, _, path = place.partition(":")
    found = importlib.import_module(module)
    *outer, last = path.split(".")
    for name in outer:
        found = getattr(found, name)
    return found, last


@pytest.mark.parametrize(("patch", "need"), NEEDS)
def test_a_place_that_recbole_has_moved_is_named(patch, need, monkeypatch):
    assert patch.problem() is None
    owner, name = owner_of(need)

    if " uses " in need:
        monkeypatch.setattr(owner, name, lambda *_: None)
    else:
        monkeypatch.delattr(owner, name)

    assert need.replace(":", ".") in patch.problem()


@pytest.mark.usefixtures("required")
def test_a_patch_that_does_not_apply_is_a_problem_with_what_it_is_needed_for(monkeypatch, capsys):
    monkeypatch.delattr("recbole.evaluator.Collector.get_data_struct")

    status, out = examined(capsys)

    assert status == 1
    assert (
        "problem: the patch leave_numbers_in_the_collector does not apply: RecBole has no "
        "recbole.evaluator.Collector.get_data_struct; it is needed for the metrics ItemCoverage"
    ) in out
    assert f"{len(PATCHES) - 1} of {len(PATCHES)} apply" in out


@pytest.mark.parametrize("module", ["no_such_package", "torch.no_such_module"])
def test_a_package_that_is_missing_is_not_taken_for_a_place_that_recbole_has_moved(module):
    def imports():
        importlib.import_module(module)

    for patch in (
        Patch(imports, (), "x", lambda: True),
        Patch(lambda: None, (f"{module}:name",), "x", lambda: True),
    ):
        with pytest.raises(ModuleNotFoundError, match=f"No module named '{module}'"):
            patch.problem()


def test_a_module_that_recbole_has_moved_is_named():
    def imports():
        importlib.import_module("recbole.moved")

    assert Patch(imports, (), "x", lambda: True).problem() == "No module named 'recbole.moved'"
    needs = Patch(lambda: None, ("recbole.moved:name",), "x", lambda: True)
    assert needs.problem() == "RecBole has no recbole.moved.name"


def test_a_patch_that_fails_or_does_not_act_says_so():
    def moves_on():
        raise AttributeError("module has no attribute x")

    assert Patch(moves_on, (), "x", lambda: True).problem() == "module has no attribute x"
    assert "has no effect" in Patch(lambda: None, (), "x", lambda: False).problem()


def test_every_patch_is_on_the_list():
    written = [
        name
        for module in (patches, recbole_checkpoints)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
        if not inspect.signature(function).parameters
    ]
    names = [patch.name for patch in PATCHES]

    assert set(written) <= set(names)
    assert len(set(names)) == len(names)
    assert {name for name in names if hasattr(register, name)} == set(names) - set(written)


def in_a_process(*arguments, path=None, blocked=()):
    """A command in a process of its own, beside other packages or without some."""
    program = f"""
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = staticmethod(
    lambda name, path=None, target=None: (
        None if name.partition(".")[0] in {tuple(blocked)!r} else find(name, path, target)
    )
)
from recbole_mm.cli import main
sys.exit(main(sys.argv[1:]))
"""
    paths = [str(path)] if path else []
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


@pytest.mark.slow
def test_a_newer_recbole_that_moved_a_function_is_named_by_the_doctor_and_by_every_command(
    tmp_path,
):
    newer = tmp_path / "packages" / "recbole"
    shutil.copytree(
        Path(recbole.__file__).parent, newer, ignore=shutil.ignore_patterns("dataset_example")
    )
    collector = newer / "evaluator" / "collector.py"
    collector.write_text(collector.read_text().replace("def get_data_struct", "def get_struct"))
    start = newer / "__init__.py"
    start.write_text(start.read_text().replace('"v1.2.1"', '"1.2.9"').replace('"1.2.1"', '"1.2.9"'))

    doctor = in_a_process("doctor", path=newer.parent)
    train = in_a_process("--model=SASRec", "--dataset=demo", path=newer.parent)

    assert doctor.returncode == 1, doctor.stderr
    assert (
        "leave_numbers_in_the_collector does not apply: RecBole has no recbole.eva" in doctor.stdout
    )
    assert train.returncode == 2
    assert "RecBole 1.2.9 is not supported, patches do not apply: leave_numbers_in_" in train.stderr
    assert "Traceback" not in train.stderr + doctor.stderr


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["recbole", "torch", "colorlog"])
def test_it_works_where_recbole_or_a_package_that_it_imports_is_missing(missing):
    done = in_a_process("doctor", blocked=[missing])

    assert done.returncode == 1, done.stderr
    assert "patches of RecBole: not checked" in done.stdout
    assert f"problem: {missing} cannot be imported" in done.stdout
    assert "does not apply" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_command_names_the_package_that_recbole_misses():
    done = in_a_process("--model=HistoryKNN", "--dataset=demo", blocked=["colorlog"])

    assert done.returncode == 2
    assert "error: colorlog cannot be imported here: No module named 'colorlog'" in done.stderr
