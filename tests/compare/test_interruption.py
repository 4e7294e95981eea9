"""A comparison that is interrupted ends at once, with its workers, and resumes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tiny import TINY_MMM4REC

SECONDS = 500  # only a broken test takes as long
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="signals between processes"),
]


def wait_for(condition, process):
    end = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < end and process.poll() is None, "it has not come that far"
        time.sleep(0.1)
    return found


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_to_the_comparison_alone_ends_it_and_its_workers(toy, name, status):
    settings = {**toy, **TINY_MMM4REC, "epochs": 1_000_000, "stopping_step": 1_000_000}
    command = [sys.executable, "-m", "recbole_mm", "compare", "--models=MMM4Rec", "--seeds=1"]
    command += ["--out=out", *(f"--{key}={value}" for key, value in settings.items())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(Path("out").glob("runs/*/epochs.json")), process)
    workers = psutil.Process(process.pid).children(recursive=True)

    process.send_signal(getattr(signal, name))

    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == status
    ended = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[name]
    assert errors.splitlines()[-1] == f"recbole-mm: error: {ended}"
    assert "Traceback" not in errors
    assert "1 of 1 runs are not finished; the same command resumes" in output
    assert workers and psutil.wait_procs(workers, SECONDS)[1] == []
    assert list(Path("out").glob("runs/*/latest.pth"))
