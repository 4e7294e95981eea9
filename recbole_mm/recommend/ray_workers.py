"""Ray workers that compute the parts of an answer, on a cluster or on this machine.

The workers are plain actors: the parts of an answer, their files and their resumption are the same
as in one process, while Ray Data would bring its own.

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
from recbole_mm.run.ray_cluster import connected, places
from recbole_mm.tools.errors import RunFailed, first_line


@contextmanager
def on_ray(open_recommender: Callable, jobs: int | None = None) -> Iterator["RayWorkers"]:
    """Workers on the cluster (:func:`~recbole_mm.run.ray_cluster.connected`).

    Args:
        open_recommender: function that opens the model and its items in every worker; must be
            picklable. Paths are relative to the current folder, which must exist on all nodes.
        jobs: number of workers; ``None``: one per GPU of the cluster, or per core without GPUs.

    Raises:
        UserError: there are more workers than the cluster has cores.
    """
    with connected():
        yield RayWorkers(open_recommender, jobs)


class RayWorkers:
    """See :func:`on_ray`; :class:`~recbole_mm.recommend.request.Workers`."""

    def __init__(self, open_recommender: Callable, jobs: int | None):
        found = places(jobs)
        self.size = found.jobs
        self._open = open_recommender
        self._worker = ray.remote(num_cpus=1, num_gpus=found.gpus)(Worker)

    def compute(
        self, answer: Answer, numbers: list[int], progress
    ) -> Iterator[tuple[int, pl.DataFrame, Summary]]:
        """Some parts of an answer, each as soon as it is complete.

        Raises:
            RunFailed: a worker died.
            Exception: the first exception that a worker raised.
        """
        shared = ray.put(answer)
        n_workers = min(self.size, len(numbers))
        workers = [self._worker.remote(os.getcwd(), self._open, shared) for _ in range(n_workers)]
        parts = ActorPool(workers).map_unordered(_ask, numbers)
        try:
            for number, table, summary in parts:
                progress(summary.users)
                yield number, table, summary
        except RayTaskError as error:
            raise error.cause from None
        except RayActorError as error:
            reason = first_line(error)
            raise RunFailed(
                f"a ray worker died ({reason}); the same command resumes, --jobs=N starts fewer"
            ) from error


def _ask(worker, number: int):
    return worker.part.remote(number)


class Worker:
    """An actor: opens the model once, and computes parts of an answer.

    Args:
        folder: folder to which paths are relative.
        open_recommender: see :func:`on_ray`.
        answer: answer without its model.
    """

    def __init__(self, folder: str, open_recommender: Callable, answer: Answer):
        self.folder, self.open, self.unopened = folder, open_recommender, answer

    @cached_property
    def answer(self) -> Answer:
        """The answer with its model, opened by the first part, whose errors reach the user."""
        os.chdir(self.folder)
        recommender = self.open()
        self.unopened.rank_with(recommender.model, recommender.catalog)
        return self.unopened

    def part(self, number: int) -> tuple[int, pl.DataFrame, Summary]:
        """Number, table and summary of a part."""
        return number, *self.answer.part(number)
