"""The package as a user gets it: a wheel in a fresh environment, outside the checkout."""

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import requires

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from recbole_mm.tools.recbole_version import INSTALL

pytestmark = pytest.mark.slow

TINY = ("--epochs=1", "--hidden_size=8", "--head_dim=8", "--d_state=4", "--n_groups=1")


def run(*command, **options):
    # A PYTHONPATH of the caller may name the checkout.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(c) for c in command],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory):
    """Built from a copy, because a build leaves files behind in its source."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("recbole_mm", "properties"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repository / name, source / name, ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    pip = (sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", out, source)
    (path,) = out.glob("recbole_mm-*.whl")
    return path


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def fresh(wheel, tmp_path_factory):
    """An environment with the wheel, and this one's dependencies but not its checkout."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / "bin" / "python"
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = run(python, "-c", purelib).strip()
    with open(f"{site}/dependencies.pth", "w") as file:
        file.write(sysconfig.get_path("purelib") + "\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps")
    run(*pip, "--force-reinstall", wheel)
    return folder


def test_the_wheel_brings_its_property_files(fresh, repository, tmp_path):
    show = "from recbole_mm.config.property_files import properties_dir; print(properties_dir())"
    installed = run(fresh / "bin" / "python", "-c", show, cwd=tmp_path).strip().splitlines()[-1]

    assert installed.startswith(str(fresh))
    wanted = (repository / "properties").rglob("*.yaml")
    for path in wanted:
        name = path.relative_to(repository / "properties")
        assert os.path.isfile(f"{installed}/{name}"), name


def test_the_wheel_brings_its_license_and_version(wheel):
    assert re.fullmatch(r"recbole_mm-\d+\.\d+\.\d+-py3-none-any\.whl", wheel.name)
    names = run(sys.executable, "-m", "zipfile", "-l", wheel)
    assert "LICENSE" in names
    assert "recbole_mm/py.typed" in names
    assert "tests/" not in names


def test_the_wheel_says_what_it_is_and_where_to_read_more(wheel):
    described = metadata(wheel)
    assert described["Name"] == "recbole_mm"
    assert described["Requires-Python"] == ">=3.10"
    assert described["Description-Content-Type"] == "text/markdown"
    assert "RecBole" in described["Keywords"].split(",")
    assert "RecBole, https://recbole.io" in described.get_all("Project-URL")
    assert "Typing :: Typed" in described.get_all("Classifier")


def test_the_installed_command_helps_and_runs(fresh, toy, tmp_path):
    command = fresh / "bin" / "recbole-mm"

    assert "MMM4Rec" in run(command, "--help", cwd=tmp_path)
    data = [f"--{key}={value}" for key, value in toy.items()]
    output = run(command, "--model=MMM4Rec", *data, *TINY, cwd=tmp_path)
    assert "checkpoint   saved/MMM4Rec-" in output
    assert list((tmp_path / "saved").glob("MMM4Rec-*.pth"))


@pytest.mark.parametrize("folder", ["", "properties/"])
def test_the_installed_command_finds_the_files_of_the_package(fresh, toy, tmp_path, folder):
    data = [f"--{key}={value}" for key, value in toy.items()]
    file = f"--config_files={folder}transfer/MMM4Rec_demo.yaml"

    output = run(fresh / "bin" / "recbole-mm", file, *data, *TINY, cwd=tmp_path)

    assert "finetune on toy with ID, transferred" in output


def test_setup_package_and_citation_name_one_version(repository):
    values = {}
    for path, name in (("setup.py", "VERSION"), ("recbole_mm/__init__.py", "__version__")):
        for node in ast.parse((repository / path).read_text()).body:
            if isinstance(node, ast.Assign) and node.targets[0].id == name:
                values[path] = node.value.value
    citation = yaml.safe_load((repository / "CITATION.cff").read_text(encoding="utf-8"))
    values["CITATION.cff"] = citation["version"]
    assert len(values) == 3
    assert len(set(values.values())) == 1, values


def test_the_ci_runs_the_command_of_the_readme(repository):
    readme = (repository / "README.md").read_text()
    pattern = re.search(r"grep -E '(.*)' README.md", (repository / ".ci/run").read_text()).group(1)

    (command,) = re.findall(f"{pattern}.*", readme, flags=re.MULTILINE)
    assert "pip install -c constraints.txt" in command


def test_the_dev_extra_brings_what_the_tests_of_the_scripts_need(wheel):
    required = metadata(wheel).get_all("Requires-Dist")
    for extra in ("docs", "features", "onnx", "report", "serve", "track", "tune", "tune-encoder"):
        for requirement in required:
            if requirement.endswith(f'extra == "{extra}"'):
                assert requirement.replace(f'"{extra}"', '"dev"') in required


def constrained(path, python):
    """Names and versions of a constraints file, on one Python."""
    requirements = [Requirement(line) for line in path.read_text().splitlines() if line[0] != "#"]
    return {
        canonicalize_name(r.name): str(r.specifier).removeprefix("==")
        for r in requirements
        if r.marker is None or r.marker.evaluate({"python_version": python})
    }


def requirements_of(wheel):
    """All, but those of CUDA kernels."""
    requirements = map(Requirement, metadata(wheel).get_all("Requires-Dist"))
    return [r for r in requirements if 'extra == "gpu"' not in str(r.marker)]


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_every_dependency_is_constrained_within_its_bounds(repository, wheel, file, python):
    versions = constrained(repository / file, python)
    for requirement in requirements_of(wheel):
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_the_lower_bounds_are_the_versions_that_are_tested(repository, wheel):
    versions = constrained(repository / "constraints-oldest.txt", "3.10")
    for requirement in requirements_of(wheel):
        (bound,) = [s.version for s in requirement.specifier if s.operator == ">="]
        assert Version(bound) == Version(versions[canonicalize_name(requirement.name)]), requirement


def test_recbole_is_installed_alone_by_the_same_command_everywhere(repository, wheel):
    assert not [r for r in metadata(wheel).get_all("Requires-Dist") if r.startswith("recbole")]

    name, _, version = INSTALL.split()[-1].partition("==")
    assert f"{name}=={version}" in (repository / "constraints.txt").read_text().splitlines()
    readme = (repository / "README.md").read_text()
    commands = re.findall("^python3 -m venv .*", readme, flags=re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert f" && {INSTALL} && " in command


def test_everything_that_recbole_imports_is_required(wheel):
    """Its own requirements, which are not installed, but for ray and what it does not import."""
    required = {canonicalize_name(r.name) for r in requirements_of(wheel)}
    wanted = {canonicalize_name(Requirement(r).name) for r in requires("recbole")}

    assert wanted - required <= {"lightgbm", "ray", "tabulate", "xgboost"}
