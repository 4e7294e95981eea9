"""The log of a run, one run after another in a process."""

import logging
import subprocess
from pathlib import Path

import pytest

RUNS = """
import logging, sys
from recbole_mm.config.load import load_config
from recbole_mm.run.logs import quiet_console, start_logging

config = load_config("SASRec", "demo")
for number in range(30):
    start_logging(config)
    logging.getLogger().info(f"run {number}")
with quiet_console():
    start_logging(config)
    logging.getLogger().info("hidden")
    logging.getLogger().warning("shown")
print(type(sys.stdout).__name__, type(getattr(sys.stdout, "_StreamWrapper__wrapped", None)).__name__)
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def logged():
    return "".join(path.read_text() for path in Path("log").rglob("*.log"))


def test_runs_of_one_process_log_one_after_another(python):
    done = subprocess.run(
        [*python, "-c", RUNS], capture_output=True, text=True, check=True, timeout=120
    )

    assert done.stderr.count("run 29") == 1
    assert done.stdout.split() == ["StreamWrapper", "TextIOWrapper"]  # one layer
    assert "shown" in done.stderr and "hidden" not in done.stderr
    assert {"run 0", "run 29", "hidden"} <= {line[-6:].strip() for line in logged().splitlines()}


def test_a_program_with_handlers_of_its_own_keeps_them_and_gets_the_file():
    from recbole_mm.config.load import load_config
    from recbole_mm.run import logs

    own = logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(own)
    try:
        logs.start_logging(load_config("SASRec", "demo"))
        root.warning("of this run")
        assert own in root.handlers
        added = [handler for handler in logs._handlers if handler in root.handlers]
        assert [type(handler) for handler in added] == [logging.FileHandler]
    finally:
        root.removeHandler(own)
    assert "of this run" in logged()
