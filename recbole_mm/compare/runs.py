r"""The runs of a comparison: every entry with every seed, each in its own folder and process.

A run is finished when its ``result.json`` exists. Its folder is named by a hash of all inputs of the
run, including the content of the data set: a finished run is not repeated, an interrupted one
resumes with the epoch it was in (RecBole's models start from scratch), and a run with other
settings is a different run.
"""

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from queue import Queue
from typing import NamedTuple, Protocol

import polars as pl

from recbole_mm.compare.ensembles import Ensemble
from recbole_mm.compare.entries import Entry
from recbole_mm.compare.progress import Progress
from recbole_mm.compare.worker import OUTPUT, PLAN, RANKS, RESULT
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import RunConfig
from recbole_mm.config.plain import config_to_plain
from recbole_mm.run.identity import PLACES, data_hashes, digest
from recbole_mm.run.progress import SECONDS_BETWEEN_LINES
from recbole_mm.tools.children import Children, as_completed
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.file_names import label_as_name
from recbole_mm.tools.files import require_writable, set_aside
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts
from recbole_mm.tools.locks import locked
from recbole_mm.tools.path_patterns import pattern_of
from recbole_mm.tools.records import read_record, write_record

LOCK = "lock"


class EntryRun(NamedTuple):
    """One entry with one seed.

    Attributes:
        label: label of the entry.
        seed: random seed.
        folder: folder of its files.
    """

    label: str
    seed: int
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / RESULT).is_file()

    def plan(self) -> dict:
        """Label and configuration of the run.

        Raises:
            ConfigError: the file is damaged or missing.
        """
        return self._read(PLAN)

    def result(self) -> dict:
        """The results of the finished run.

        Raises:
            ConfigError: the file is damaged or missing.
        """
        return self._read(RESULT)

    def ranks(self) -> pl.LazyFrame:
        """The ranks of the finished run, under its label in this comparison."""
        return pl.scan_parquet(pattern_of(self.folder / RANKS)).with_columns(
            label=pl.lit(self.label)
        )

    def set_aside_if_damaged(self) -> None:
        """Make a finished run with damaged files unfinished; the files are kept as
        ``*.damaged``."""
        if not self.finished:
            return
        try:
            self.plan()
            known = self.result().get(RANKS)
            pl.read_parquet_schema(pattern_of(self.folder / RANKS))
            if known != sha256_of_file(self.folder / RANKS):
                raise ConfigError(f"{RANKS} has changed since it was written")
        except (OSError, UserError, pl.exceptions.PolarsError) as error:
            set_aside(self.folder / RESULT, error)
            set_aside(self.folder / RANKS, error)

    def _read(self, name: str) -> dict:
        record = read_record(self.folder / name)
        if record is None:
            raise ConfigError(f"{self.folder / name} does not exist: the run is not finished")
        return record


class Failure(NamedTuple):
    """A run that did not finish, with the reason in one line."""

    run: EntryRun
    reason: str


@contextmanager
def only_one_in(out: Path):
    """Lock a comparison's folder while the block runs.

    Raises:
        UserError: the folder is locked, or cannot be written to.
    """
    require_writable(out, "Give another --out")
    refusal = f"another comparison is running in {out}: wait for it, end it, or give another --out"
    with locked(out / LOCK, refusal):
        yield


def find_run(entry: Entry, config: RunConfig, out: Path) -> EntryRun:
    """The run of an entry, whether or not its folder exists, under whatever label an earlier
    comparison gave it.

    Args:
        entry: entry to run.
        config: configuration of the entry, with the seed.
        out: folder of the comparison.
    """
    identity = digest(config, PLACES, data=data_hashes(config))
    return _run(entry.label, config["seed"], identity, out)


def find_ensemble_run(ensemble: Ensemble, members: list[EntryRun], out: Path) -> EntryRun:
    """The run of an ensemble, identified by the runs of its members; see also :func:`find_run`.

    Args:
        ensemble: ensemble to run.
        members: runs of its members, with one seed or with all.
        out: folder of the comparison.
    """
    identity = sha256_of_parts([member.folder.name.rpartition("-")[2] for member in members])
    return _run(ensemble.label, members[0].seed, identity, out)


def _run(label: str, seed: int, identity: str, out: Path) -> EntryRun:
    suffix = f"seed{seed}-{identity[:10]}"
    name = label_as_name(label)
    existing = (out / "runs").glob(f"*-{suffix}")
    folder = next(existing, out / "runs" / f"{name}-{suffix}")
    return EntryRun(label, seed, folder)


def plan_ensemble(run: EntryRun, members: list[EntryRun]) -> None:
    """Write the plan of an ensemble's run; nothing is computed."""
    config = members[0].plan()["config"] | {"checkpoint_dir": str(run.folder)}
    folders = [str(member.folder) for member in members]
    write_record(run.folder / PLAN, {"label": run.label, "config": config, "members": folders})


def plan(run: EntryRun, config: RunConfig) -> None:
    """Write the plan of a run; nothing is computed."""
    plain = config_to_plain(config)
    plain["checkpoint_dir"] = str(run.folder)
    plain["show_progress"] = False
    write_record(run.folder / PLAN, {"label": run.label, "config": plain})


class Remote(Protocol):
    """Another place for runs, and a context manager that ends them: a call executes one, waits for
    it, and returns the reason if it failed, else ``None``."""

    def __call__(self, run: EntryRun) -> str | None: ...

    def __enter__(self) -> object: ...

    def __exit__(self, *error) -> None: ...


def execute(
    runs: list[EntryRun],
    gpus: list[str],
    jobs: int,
    log: Callable[[str], None],
    remote: Remote | None = None,
) -> list[Failure]:
    """Execute the unfinished runs, ``jobs`` at a time; they end when this process ends.

    Args:
        runs: all runs of the comparison, in the order in which they start.
        gpus: GPUs for the runs, one each in turn.
        jobs: number of concurrent processes.
        log: function that is called with a line when a run ends.
        remote: place that executes the runs; ``None``: processes on this machine.

    Returns:
        the runs that failed; the others are finished.
    """
    todo = [run for run in runs if not run.finished]
    log(f"{len(runs)} runs, {len(runs) - len(todo)} of them already finished; {jobs} at a time")
    places: Queue[int] = Queue()
    for place in range(jobs):
        places.put(place)

    def work(run: EntryRun) -> str | None:
        place = places.get()
        try:
            if remote is not None:
                return remote(run)
            gpu = gpus[place % len(gpus)] if gpus else None
            return run_in_process(run, gpu, jobs, children, log)
        except OSError as error:
            return str(error)
        finally:
            places.put(place)

    failures = []
    threads = ThreadPoolExecutor(max_workers=jobs)
    with threads as pool, Children() as children, remote or nullcontext():
        waiting = {pool.submit(work, run): run for run in todo}
        try:
            for number, future in enumerate(as_completed(waiting), 1):
                run, reason = waiting[future], future.result()
                if reason:
                    failures.append(Failure(run, reason))
                outcome = f"FAILED: {reason}" if reason else f"{run.result()['seconds']:.0f} s"
                log(f"[{number}/{len(todo)}] {run.label}, seed {run.seed}: {outcome}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            left = sum(not run.finished for run in runs)
            log(f"{left} of {len(runs)} runs are not finished; the same command resumes")
            raise
    return failures


def run_in_process(
    run: EntryRun, gpu: str | None, jobs: int, children: Children, log: Callable[[str], None]
) -> str | None:
    """Execute a run and wait for it; return the reason if it failed, else ``None``."""
    environment = {"PYTHONIOENCODING": "utf-8", **os.environ}
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    if gpu is not None:
        plan = run.plan()
        plan["config"]["gpu_id"] = gpu
        write_record(run.folder / PLAN, plan)
    progress = Progress(run.folder)

    def report_progress() -> None:
        line = progress.line()
        if line:
            log(f"{run.label}, seed {run.seed}: {line}")

    command = [sys.executable, "-m", "recbole_mm.compare.worker", str(run.folder)]
    with open(run.folder / OUTPUT, "wb") as stream:
        status = children.run(command, stream, environment, SECONDS_BETWEEN_LINES, report_progress)
    return _reason(status, run.folder / OUTPUT)


def _reason(status: int, output: Path) -> str | None:
    """Why a worker ended with this status; ``None`` if its run is finished."""
    if status == 0:
        return None
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + " (out of memory? try fewer --jobs)" * (name == "SIGKILL")
    text = output.read_text(encoding="utf-8", errors="replace").strip()
    return text.splitlines()[-1] if text else f"exit status {status}"
