"""Workers of ray compute the parts of an answer, on a cluster or on this machine.

The workers are plain actors: the parts of an answer, their files and their resumption are those of one
process, and Ray Data would bring its own.

Importing this module imports ray.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import polars as pl
import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import ActorPool

from recbole_mm.recommend.request import Answer, Summary
from recbole_mm.run.jobs import environment
from recbole_mm.tools.errors import RunFailed, UserError

SETTINGS: dict[str, str | None] = {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is reported home


@contextmanager
def on_ray(open_recommender: Callable, jobs: int | None = None) -> Iterator["RayWorkers"]:
    """Workers on the cluster that this process is connected to, or that ``RAY_ADDRESS`` names, or
    that runs on this machine; without one, a local one is started and ended.

    Args:
        open_recommender: opens the model and its items in every worker; it can be pickled. Relative
            paths start from the current folder, which exists on all nodes.
        jobs: number of workers; ``None``: one per GPU of the cluster, or per core without GPUs.

    Raises:
        UserError: more workers than the cluster has cores.
    """
    is_ours = not ray.is_initialized()
    if is_ours:
        with environment(SETTINGS):
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        yield RayWorkers(open_recommender, jobs)
    finally:
        if is_ours:
            ray.shutdown()


class RayWorkers:
    """See :func:`on_ray`; :class:`~recbole_mm.recommend.request.Workers`."""

    def __init__(self, open_recommender: Callable, jobs: int | None):
        resources = ray.cluster_resources()
        cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
        self.size = jobs or gpus or cores
        if self.size > cores:
            raise UserError(
                f"--jobs={self.size}: the ray cluster has {cores} cores, one per worker; give fewer"
            )
        self._open = open_recommender
        self._worker = ray.remote(num_cpus=1, num_gpus=gpu_share(self.size, gpus))(Worker)

    def compute(
        self, answer: Answer, numbers: list[int], progress
    ) -> Iterator[tuple[int, pl.DataFrame, Summary]]:
        """Some parts of an answer, each as soon as it is there.

        Raises:
            RunFailed: a worker died.
            Exception: the first one that a worker raised.
        """
        shared = ray.put(answer)
        n_workers = min(self.size, len(numbers))
        workers = [self._worker.remote(os.getcwd(), self._open, shared) for _ in range(n_workers)]
        # ray annotates the function as if it were called without the number
        parts = ActorPool(workers).map_unordered(_ask, numbers)  # type: ignore[arg-type]
        try:
            for number, table, summary in parts:
                progress(summary.users)
                yield number, table, summary
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            reason = str(error).strip().partition("\n")[0]
            raise RunFailed(
                f"a worker of ray died ({reason}); the same command resumes, --jobs=N starts fewer"
            ) from error


def _ask(worker, number: int):
    return worker.part.remote(number)


def gpu_share(n_workers: int, gpus: int) -> float:
    """Part of a GPU that each worker gets: all have a place, and none has more than one GPU."""
    return 1 / -(-n_workers // gpus) if gpus else 0


class Worker:
    """An actor: opens the model once, and computes parts of an answer.

    Args:
        folder: that relative paths start from.
        open_recommender: see :func:`on_ray`.
        answer: without its model.
    """

    def __init__(self, folder: str, open_recommender: Callable, answer: Answer):
        self.folder, self.open, self.unopened = folder, open_recommender, answer

    @cached_property
    def answer(self) -> Answer:
        """With its model. It is opened by the first part, whose errors reach the user."""
        os.chdir(self.folder)
        recommender = self.open()
        self.unopened.rank_with(recommender.model, recommender.catalog)
        return self.unopened

    def part(self, number: int) -> tuple[int, pl.DataFrame, Summary]:
        """Number, table and summary of a part."""
        return number, *self.answer.part(number)
