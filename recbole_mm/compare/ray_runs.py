"""The runs of a comparison on a ray cluster. Importing this module imports ray."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from recbole_mm.compare.runs import EntryRun, run_in_process
from recbole_mm.compare.worker import BEST_EPOCH, OUTPUT, PLAN, RANKS, RESULT
from recbole_mm.run.ray_cluster import Places, connected, places
from recbole_mm.tools.children import Children
from recbole_mm.tools.errors import first_line
from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.records import write_record
from recbole_mm.tools.variables import GPU_VARIABLE

MOST_RETRIES = 3
"""Maximum number of repeats of a run whose process or node died."""

SENT = (OUTPUT, BEST_EPOCH, RANKS, RESULT)
"""Files that a node sends back; the last one marks the run as finished."""


@contextmanager
def on_ray(jobs: int | None) -> Iterator["RayRuns"]:
    """The cluster (:func:`~recbole_mm.run.ray_cluster.connected`) as a place for runs.

    Args:
        jobs: number of concurrent runs; ``None``: one per GPU of the cluster, or per core without
            GPUs.

    Raises:
        UserError: more concurrent runs than the cluster has cores.
    """
    with connected():
        yield RayRuns(places(jobs), os.getcwd())


class RayRuns:
    """Starts runs on a cluster; a context manager that cancels the unfinished ones on exit.

    All nodes have this package and the data set under the same paths. A node works in the run's folder
    under the current folder. If the nodes share that folder, the results are there, and a run that
    died with its node resumes with the epoch it was in. If not, the node sends its output, the
    best epoch, the ranks and the result (:data:`SENT`), and a run that died starts from scratch.

    Args:
        found: number of concurrent runs, and share of a GPU for each.
        folder: folder that relative paths start from.

    Attributes:
        jobs: number of concurrent runs.
    """

    def __init__(self, found: Places, folder: str):
        self.jobs, self.folder = found.jobs, folder
        task = ray.remote(num_returns=2, num_cpus=1, num_gpus=found.gpus, max_retries=MOST_RETRIES)
        self._task: Any = task(run_on_node)
        self._running: set[ray.ObjectRef] = set()
        self._lock = threading.Lock()

    def __enter__(self):
        return self

    def __call__(self, run: EntryRun) -> str | None:
        """Execute a run and wait for it; return the reason if it failed, else ``None``.
        Thread-safe."""
        reason, files = self._task.remote(self.folder, run, run.plan())
        with self._lock:
            self._running.add(reason)
        try:
            ended = ray.get(reason)
            if not run.finished:  # the folder is not shared
                receive(run, ray.get(files))
        except RayError as error:
            first = first_line(error)
            return f"its process or its node died, and so did {MOST_RETRIES} repeats ({first})"
        finally:
            with self._lock:
                self._running.discard(reason)
        return ended

    def __exit__(self, *_) -> None:
        with self._lock:
            left = list(self._running)
        for reason in left:
            ray.cancel(reason, force=True)


def receive(run: EntryRun, files: dict[str, bytes]) -> None:
    """Write the files of a node into the folder of the run."""
    for name, content in files.items():
        with whole_or_not(run.folder / name) as temporary:
            temporary.write_bytes(content)


def run_on_node(folder: str, run: EntryRun, plan: dict) -> tuple[str | None, dict[str, bytes]]:
    """Execute a run on a node, in its own process, unless it has already finished there.

    Returns:
        the reason if it failed, else ``None``; the files to send, by name.
    """
    os.chdir(folder)
    run.folder.mkdir(parents=True, exist_ok=True)
    write_record(run.folder / PLAN, plan)
    run.set_aside_if_damaged()
    reason = None
    if not run.finished:
        gpu = os.environ.get(GPU_VARIABLE) or None
        with Children() as children:
            reason = run_in_process(run, gpu, os.cpu_count() or 1, children, lambda _: None)
    names = SENT if reason is None else (OUTPUT,)
    paths = [run.folder / name for name in names]
    return reason, {path.name: path.read_bytes() for path in paths if path.is_file()}
