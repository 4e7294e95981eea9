"""Number of independent runs at once, their seeds and their GPUs."""

import os
from collections.abc import Mapping

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import parse_value
from recbole_mm.tools.variables import GPU_VARIABLE, environment

MOST_JOBS = 4
"""Maximum number of processes at once if the user gives no number."""
STARTED_WITH = os.environ.get(GPU_VARIABLE)  # a RecBole Config later leaves only one GPU in it


def visible_gpus(given: Mapping) -> list[str]:
    """The GPUs available to runs, in the notation of RecBole's ``gpu_id``.

    Args:
        given: the user's values, of which ``use_gpu`` and ``gpu_id`` count; without ``gpu_id``, all
            GPUs that this process was started with are available.
    """
    if not given.get("use_gpu", True):
        return []
    if given.get("gpu_id") is not None:
        return [name.strip() for name in str(given["gpu_id"]).split(",") if name.strip()]
    import torch

    with environment({GPU_VARIABLE: STARTED_WITH}):
        n_gpus = torch.cuda.device_count()
    return STARTED_WITH.split(",")[:n_gpus] if STARTED_WITH else [str(i) for i in range(n_gpus)]


def number_of_jobs(jobs: int | None, gpus: list[str]) -> int:
    """Processes at once: ``jobs``, or one per GPU, or one per core up to :data:`MOST_JOBS`.

    Raises:
        ConfigError: ``jobs`` is less than 1.
    """
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs={jobs}: give a number >= 1")
    return jobs or len(gpus) or min(os.cpu_count() or 1, MOST_JOBS)


def parse_seeds(text: str) -> list[int]:
    """Parse ``--seeds``: the number of seeds, counted from 1, or a list of them.

    Raises:
        ConfigError: the text is neither, or a seed is duplicate.
    """
    value = parse_value(text)
    seeds = list(range(1, value + 1)) if type(value) is int else value
    plain = isinstance(seeds, (list, tuple)) and all(type(seed) is int for seed in seeds)
    if not plain or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds={text}: give a number >= 1, or a list of different integers")
    return list(seeds)
