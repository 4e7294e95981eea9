"""Commands in processes that have everything imported, killed or interrupted at a chosen point.

As a script this is the process that forks for each command: importing takes seconds, forking none.
It has no threads, because it computes nothing itself.
"""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fork_server import ADDRESS, FORKS, Forked

KILLED = 137
COUNTED = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"}
NOT_COUNTED = ("log", "log_tensorboard", ".matplotlib")
IMPORTED = (
    "recbole_mm.cli", "recbole_mm.compare.comparison", "recbole_mm.compare.examples",
    "recbole_mm.compare.report", "recbole_mm.compare.worker", "recbole_mm.prepare.amazon",
    "recbole_mm.prepare.convert_missrec", "recbole_mm.prepare.mix",
    "recbole_mm.prepare.own_tables", "recbole_mm.recommend.export",
    "recbole_mm.recommend.recommender", "recbole_mm.run.command", "recbole_mm.run.stages",
    "recbole_mm.tuning.command", "recbole_mm.tuning.optuna_search", "recbole_mm.tuning.report",
    "recbole_mm.tuning.search", "sklearn.decomposition", "matplotlib.backends.backend_svg",
    "torch.fx.experimental.symbolic_shapes",  # by the first gradient that is given to torch
)  # fmt: skip

TUNING = "recbole_mm.encoder_tuning.trainer"
"""Imported where its libraries are installed; a tuning keeps a checkpoint of every batch here."""


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        status: of the process, :data:`KILLED` if it was.
        points: how often it opened a file to write, renamed, removed, or made a folder.
        output: what it printed.
    """

    status: int
    points: int
    output: str


def can_tune_encoders() -> bool:
    """Whether the libraries of recbole-mm tune-encoder are installed."""
    return all(map(find_spec, ("sentence_transformers", "accelerate", "datasets")))


class Zygote:
    """The process from which commands are forked; a context.

    Where there is a fork server, it is a fork of it, and so are the processes that the commands start.
    """

    def __enter__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "2"}
        environment["SOURCE_DATE_EPOCH"] = "1700000000"
        environment["MPLCONFIGDIR"] = "/tmp"
        start = Forked if ADDRESS in os.environ else subprocess.Popen
        self._process = start(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        return self

    def run(
        self, folder: Path, arguments: list[str], kill_at: int | None = None, by: str = "SIGKILL"
    ) -> Ended:
        """Run a command in a folder.

        Args:
            folder: the working directory.
            arguments: of ``recbole-mm``, or ``worker`` and a folder for a worker of a comparison.
            kill_at: number of the point before which the process is killed; ``None``: none.
            by: name of the signal that it gets there.
        """
        job = {"folder": str(folder), "arguments": arguments, "kill_at": kill_at, "by": by}
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(**answer)

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Counter:
    """Counts what changes the working directory, and sends a signal to the process at a point."""

    def __init__(self, kill_at: int | None, by: str):
        self.folder, self.points, self.kill_at = os.getcwd() + os.sep, 0, kill_at
        self.by = by

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in COUNTED or not isinstance(arguments[0], (str, os.PathLike)):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        path = os.path.abspath(arguments[0])
        if not path.startswith(self.folder) or self._is_log(path):
            return
        self.points += 1
        if self.points - 1 == self.kill_at:
            if self.by == "SIGKILL":
                os._exit(KILLED)
            os.kill(os.getpid(), signal.Signals[self.by])

    def _is_log(self, path: str) -> bool:
        return path.removeprefix(self.folder).split(os.sep)[0] in NOT_COUNTED


def _serve() -> None:
    import importlib

    for name in IMPORTED:
        importlib.import_module(name)
    if can_tune_encoders():
        importlib.import_module(TUNING).SECONDS_BETWEEN_CHECKPOINTS = 0
    import torch

    from recbole_mm.tools import children

    torch.set_num_threads(1)
    if ADDRESS in os.environ:
        children.subprocess = FORKS
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        job = json.loads(line)
        report = Path(job["folder"]).with_suffix(".points")
        output = Path(job["folder"]).with_suffix(".output")
        report.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            _run_in_child(job, report, output)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        points = int(report.read_text()) if report.is_file() else -1
        text = output.read_text(errors="replace")
        answers.write(json.dumps({"status": status, "points": points, "output": text}) + "\n")
        answers.flush()


def _run_in_child(job: dict, report: Path, output: Path) -> None:
    import traceback

    status = 70
    try:
        stream = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout.reconfigure(line_buffering=True)  # its lines are where they belong among errors
        os.chdir(job["folder"])
        sys.argv = ["recbole-mm", *job["arguments"]]
        counter = Counter(job["kill_at"], job["by"])
        sys.addaudithook(counter)
        status = _run(job["arguments"])
        sys.stdout.flush()
        report.write_text(str(counter.points))
    except BaseException:  # noqa: BLE001 the parent needs an answer
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _run(arguments: list[str]) -> int:
    if arguments[0] == "worker":
        from recbole_mm.compare.worker import run_one

        run_one(Path(arguments[1]))
        return 0
    from recbole_mm.cli import main
    from recbole_mm.tools.interrupts import take_over

    take_over()
    return main(arguments)


if __name__ == "__main__":
    _serve()
