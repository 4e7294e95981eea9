"""How many independent runs go side by side."""

import os

import torch

MOST_JOBS = 4


def default_jobs() -> int:
    """Processes at once: one per GPU, or one per core up to :data:`MOST_JOBS`."""
    return torch.cuda.device_count() or min(os.cpu_count() or 1, MOST_JOBS)
