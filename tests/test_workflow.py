"""The workflow for hosted runners runs the README's commands, on every system and Python."""

import re

import pytest
import yaml

POSIX = "python3 -m venv .venv && . .venv/bin/activate"
WINDOWS = r"python -m venv .venv && call .venv\Scripts\activate.bat"


@pytest.fixture
def job(repository):
    path = repository / ".github" / "workflows" / "tests.yml"
    if not path.is_file():
        pytest.skip("not a checkout")
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]["tests"]


def commands(job, is_windows: bool) -> list[str]:
    condition = "runner.os == 'Windows'" if is_windows else "runner.os != 'Windows'"
    return [step["run"] for step in job["steps"] if step.get("if") == condition]


def test_the_commands_are_those_of_the_readme(job, repository):
    readme = (repository / "README.md").read_text(encoding="utf-8")
    wanted = re.findall(rf"^{re.escape(POSIX)} .*$", readme, flags=re.MULTILINE)

    assert len(wanted) == 2
    assert commands(job, is_windows=False) == wanted
    assert commands(job, is_windows=True) == [c.replace(POSIX, WINDOWS) for c in wanted]


def test_every_step_with_a_command_belongs_to_one_kind_of_system(job):
    steps = [step for step in job["steps"] if "run" in step]

    assert len(steps) == len(commands(job, True)) + len(commands(job, False))


def test_the_matrix_has_three_systems_and_every_python_of_the_metadata(job, repository):
    metadata = (repository / "pyproject.toml").read_text(encoding="utf-8")
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', metadata)
    matrix = job["strategy"]["matrix"]

    assert matrix["python"] == versions
    assert [system.partition("-")[0] for system in matrix["system"]] == [
        "ubuntu",
        "macos",
        "windows",
    ]


def test_the_files_that_the_commands_name_exist(job, repository):
    for command in commands(job, is_windows=False):
        for name in re.findall(r"[\w-]+\.(?:txt|py)\b", command):
            assert (repository / name).is_file(), name
