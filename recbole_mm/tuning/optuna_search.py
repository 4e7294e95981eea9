"""A search by Optuna on this machine: this process draws the trials, workers train them."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path

from optuna.trial import Trial

from recbole_mm.tools.children import ORPHANED, SECONDS_BETWEEN_SIGNALS
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.variables import GPU_VARIABLE, environment
from recbole_mm.tuning.objective import Objective, Outcome
from recbole_mm.tuning.trials import Trials

SPAWN = multiprocessing.get_context("spawn")
OUTPUT = "output"
"""Folder of the workers' output."""


def run_by_optuna(
    trials: Trials, objective: Objective, jobs: int, gpus: list[str], out: Path
) -> None:
    """Draw and run the trials: one job runs them in this process, several in separate processes.

    A worker that dies, for example for lack of memory, only ends its own trial.

    Args:
        trials: trials of the search.
        objective: objective that trains a point.
        jobs: number of concurrent trials.
        gpus: GPUs for the workers, one each in turn.
        out: folder of the search; the workers print into files there.

    Raises:
        Exception: the first exception of the objective; it ends the search.
    """
    if jobs == 1:
        while (trial := trials.draw()) is not None:
            trials.run(trial, objective)
        return
    (out / OUTPUT).mkdir(exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    idle = [
        Worker(objective, gpus[n % len(gpus)] if gpus else None, threads, out / OUTPUT / f"{n}.txt")
        for n in range(jobs)
    ]
    busy: dict[Connection, Worker] = {}
    try:
        while True:
            while idle and (drawn := trials.draw()) is not None:
                worker = idle.pop(0)
                busy[worker.begin(drawn)] = worker
            if not busy:
                return
            ready = wait(list(busy), SECONDS_BETWEEN_SIGNALS)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                if busy[pipe].serve(trials):
                    idle.append(busy.pop(pipe))
    finally:
        for worker in (*idle, *busy.values()):
            worker.stop()


class Worker:
    """A process that trains one trial after another, started by its first trial.

    Args:
        objective: objective that trains a point.
        gpu: GPU visible to the process; ``None``: the same as in this process.
        threads: number of torch threads, unless the user gave one.
        output: file for its output.
    """

    def __init__(self, objective: Objective, gpu: str | None, threads: str, output: Path):
        self.objective, self.gpu, self.threads, self.output = objective, gpu, threads, output
        self.process: multiprocessing.process.BaseProcess | None = None

    def begin(self, trial: Trial) -> Connection:
        """Send it a trial; :meth:`serve` receives its answers."""
        self.trial = trial
        if self.process is None or not self.process.is_alive():
            self.stop()
            self._start()
        self.pipe.send(trial.user_attrs["point"])
        return self.pipe

    def serve(self, trials: Trials) -> bool:
        """Receive a message and answer it; return whether the trial has ended.

        Raises:
            Exception: the exception of the objective.
        """
        try:
            message = self.pipe.recv()
        except (EOFError, OSError):
            message = Outcome("failed", reason=self._death(), again=True)
        if isinstance(message, BaseException):
            raise message
        if isinstance(message, Outcome):
            trials.finish(self.trial, message)
            return True
        with contextlib.suppress(OSError):  # it has died, which the next call finds out
            self.pipe.send(trials.judge(self.trial, *message))
        return False

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            self.process.join()
            self.pipe.close()
        self.process = None

    def _start(self) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        place = {} if self.gpu is None else {"gpu_id": self.gpu}
        arguments = (theirs, self.objective, place, self.output)
        self.process = SPAWN.Process(target=work, args=arguments, daemon=True)
        threads = os.environ.get("OMP_NUM_THREADS", self.threads)
        gpu = os.environ.get(GPU_VARIABLE) if self.gpu is None else self.gpu
        with environment({"OMP_NUM_THREADS": threads, GPU_VARIABLE: gpu}):
            self.process.start()
        theirs.close()

    def _death(self) -> str:
        assert self.process is not None
        self.process.join()
        status = self.process.exitcode
        self.stop()
        if status is not None and status < 0:
            hint = " (out of memory? try fewer --jobs)" if -status == 9 else ""
            return f"its process was killed by {signal.Signals(-status).name}{hint}"
        return f"its process ended with exit status {status}, see {self.output}"


def _end_with_parent() -> None:
    """End this process immediately when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(ORPHANED)


def work(pipe: Connection, objective: Objective, place: dict, output: Path) -> None:
    """Run trials in a worker until the process that started it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches all processes of a terminal
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.flush()
    with open(output, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def judge(epoch: int, score: float) -> bool:
        pipe.send((epoch, score))
        return pipe.recv()

    while True:
        point = pipe.recv()
        pipe.send(_outcome(objective, point, judge, place))


def _outcome(objective: Objective, point: dict, judge, place: dict) -> Outcome | Exception:
    try:
        return objective(point, judge, **place)
    except UserError as error:
        return error
    except Exception:  # noqa: BLE001 the process that draws raises it, whatever it is
        return RunFailed(f"trial {point}: {traceback.format_exc().rstrip()}")
