r"""The runs of a comparison: every entry with every seed, in folders and processes of their own.

A run is finished when its ``result.json`` is there. Its folder is named by a hash of all that it
computes from, the content of the data set included: a finished run is not repeated, one that was
killed goes on with the epoch it was in (RecBole's models start anew), and one with other settings
is another run.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import IO, NamedTuple

import polars as pl

from recbole_mm.compare.entries import Entry
from recbole_mm.compare.worker import BEST_EPOCH, LATEST_EPOCH, PLAN, RANKS, RESULT
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import RunConfig
from recbole_mm.config.plain import config_to_plain
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.tools.files import require_writable, write_json

LOCK, OUTPUT = "lock", "output.txt"
LABEL_LENGTH = 100  # in a folder's name


class Run(NamedTuple):
    """One entry with one seed.

    Attributes:
        label: of the entry.
        seed: of all random numbers.
        folder: of its files.
    """

    label: str
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT).is_file()

    def plan(self) -> dict:
        """What it was told to do."""
        return json.loads((self.folder / PLAN).read_text(encoding="utf-8"))

    def result(self) -> dict:
        """What the finished run computed.

        Raises:
            ConfigError: the file is damaged.
        """
        with self._reading(RESULT):
            return json.loads((self.folder / RESULT).read_text(encoding="utf-8"))

    def ranks(self) -> pl.LazyFrame:
        """The ranks of the finished run, under its label in this comparison.

        Raises:
            ConfigError: the file is damaged or not there.
        """
        with self._reading(RANKS):
            pl.read_parquet_schema(self.folder / RANKS)
        return pl.scan_parquet(self.folder / RANKS).with_columns(label=pl.lit(self.label))

    @contextmanager
    def _reading(self, name: str):
        try:
            yield
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise ConfigError(
                f"{self.folder / name}: a finished run that cannot be read ({error}). Delete its "
                f"folder, and the same command makes the run again"
            ) from error


class Failure(NamedTuple):
    """A run that did not finish, and why, in a line."""

    run: Run
    reason: str


@contextmanager
def only_one_in(out: Path):
    """Hold a comparison's folder against other commands, while it or one of its workers lives.

    Yields:
        the open lock file, which workers inherit.

    Raises:
        ConfigError: it is held, or cannot be written to.
    """
    require_writable(out, "Give another --out")
    with open(out / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another comparison is running in {out}, or a worker that it left: wait for it, "
                f"end it, or give another --out"
            ) from None
        yield lock


def find_run(entry: Entry, config: RunConfig, out: Path, mask_seen: bool) -> Run:
    """One run, whether it is there or not; what it is called in another comparison is no matter.

    Args:
        entry: what runs.
        config: its configuration, with the seed.
        out: folder of the comparison.
        mask_seen: see :func:`~recbole_mm.compare.ranks.evaluate_ranks`.
    """
    identity = digest(config, PLACES, mask_seen=mask_seen, data=data_hashes(config))
    own = f"seed{config['seed']}-{identity[:10]}"
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in entry.label)[:LABEL_LENGTH]
    before = (out / "runs").glob(f"*-{own}")
    folder = next(before, out / "runs" / f"{name}-{own}")
    return Run(entry.label, config["seed"], folder)


def plan(run: Run, config: RunConfig, mask_seen: bool) -> None:
    """Write down what a run has to do; nothing is computed."""
    plain = config_to_plain(config)
    plain["checkpoint_dir"] = str(run.folder)
    plain["show_progress"] = False
    write_json(run.folder / PLAN, {"label": run.label, "mask_seen": mask_seen, "config": plain})


def execute(
    runs: list[Run], gpus: list[str], jobs: int, lock: IO, log: Callable[[str], None]
) -> list[Failure]:
    """Run what is not finished, ``jobs`` at a time; when this process is ended, so are they.

    Args:
        runs: all of the comparison, in the order in which they start.
        gpus: that runs are given, one each in turn.
        jobs: processes at once.
        lock: see :func:`only_one_in`.
        log: told of the end of every run.

    Returns:
        what failed; the others are finished.
    """
    todo = [run for run in runs if not run.finished]
    log(f"{len(runs)} runs, {len(runs) - len(todo)} of them finished before; {jobs} at a time")
    places: Queue[int] = Queue()
    for place in range(jobs):
        places.put(place)
    processes: set[subprocess.Popen] = set()

    def work(run: Run) -> str | None:
        place = places.get()
        try:
            gpu = gpus[place % len(gpus)] if gpus else None
            return _execute_one(run, gpu, jobs, lock, processes)
        except OSError as error:
            return str(error)
        finally:
            places.put(place)

    failures = []
    pool = ThreadPoolExecutor(max_workers=jobs)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        waiting = {pool.submit(work, run): run for run in todo}
        for number, future in enumerate(as_completed(waiting), 1):
            run, reason = waiting[future], future.result()
            if reason:
                failures.append(Failure(run, reason))
            said = f"FAILED: {reason}" if reason else f"{run.result()['seconds']:.0f} s"
            log(f"[{number}/{len(todo)}] {run.label}, seed {run.seed}: {said}")
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(processes):
            process.terminate()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    pool.shutdown()
    return failures


def _execute_one(run: Run, gpu: str | None, jobs: int, lock: IO, processes: set) -> str | None:
    """Run one and wait for it; why it failed, or ``None``."""
    _clear(run.folder)
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    if gpu is not None:
        plan = run.plan()
        plan["config"]["gpu_id"] = gpu
        write_json(run.folder / PLAN, plan)
    command = [sys.executable, "-m", "recbole_mm.compare.worker", str(run.folder)]
    with open(run.folder / OUTPUT, "wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[lock.fileno()],
        )
        processes.add(process)
        status = process.wait()
        processes.discard(process)
    if status == 0:
        return None
    if status < 0:
        hint = " (out of memory? fewer --jobs need less)" if -status == signal.SIGKILL else ""
        return f"ended by {signal.Signals(-status).name}{hint}"
    said = (run.folder / OUTPUT).read_text(encoding="utf-8", errors="replace").strip()
    return said.splitlines()[-1] if said else f"exit status {status}"


def _clear(folder: Path) -> None:
    """Remove what an attempt before left, all but the plan and the epochs to go on from."""
    kept = {PLAN}
    if (folder / LATEST_EPOCH).is_file():
        kept |= {BEST_EPOCH, LATEST_EPOCH}
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in kept:
            path.unlink()
