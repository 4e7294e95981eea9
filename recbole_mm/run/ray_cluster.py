"""The ray cluster of the commands with ``--tool=ray``. Importing this module imports ray."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import ray

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.variables import environment

SETTINGS: dict[str, str | None] = {"RAY_USAGE_STATS_ENABLED": "0"}  # no usage statistics are sent


class Places(NamedTuple):
    """How many tasks a cluster runs at once, one core each.

    Attributes:
        jobs: number of tasks at once.
        gpus: GPUs per task, a fraction if there are fewer GPUs than tasks.
    """

    jobs: int
    gpus: float


@contextmanager
def connected() -> Iterator[None]:
    """Connect to the cluster that this process is already connected to, that ``RAY_ADDRESS`` names,
    or that runs on this machine; without one, a local cluster is started and stopped."""
    is_ours = not ray.is_initialized()
    if is_ours:
        with environment(SETTINGS):
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()


def places(jobs: int | None = None) -> Places:
    """Divide the cluster among tasks.

    Args:
        jobs: number of tasks at once; ``None``: one per GPU of the cluster, or per core without
            GPUs.

    Raises:
        UserError: there are more tasks than cores in the cluster.
    """
    resources = ray.cluster_resources()
    cores, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    size = jobs or gpus or cores
    if size > cores:
        raise UserError(
            f"--jobs={size}: the ray cluster has {cores} cores, one per worker; give fewer"
        )
    return Places(size, gpu_share(size, gpus))


def gpu_share(n_workers: int, gpus: int) -> float:
    """Share of a GPU that each worker gets: all workers fit, and none has more than one GPU."""
    return 1 / -(-n_workers // gpus) if gpus else 0
