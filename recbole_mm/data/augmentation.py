"""Training examples that differ from epoch to epoch: parts of windows, other orders of ties."""

import numpy as np
import torch
from torch import Tensor

from recbole_mm.data.sequences import rows_of_runs, steps_to_end


def random_crops(first: Tensor, end: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Cut some windows to a part of random length at a random place.

    Args:
        first: the first row that a window reads, ``(b,)``.
        end: the row behind its last one, ``(b,)``.
        share: of the windows that are cut, on average.

    Returns:
        ``first`` and ``end`` of each, at least one row apart.
    """
    size = end - first
    length = 1 + (torch.rand(len(size)) * size).long()
    start = (torch.rand(len(size)) * (size - length + 1)).long()
    cut = torch.rand(len(size)) < share
    return torch.where(cut, first + start, first), torch.where(cut, first + start + length, end)


def shuffled_ties(times: Tensor, real: Tensor) -> Tensor:
    """An order of positions in which events at the same time take each other's places at random.

    Args:
        times: of the events, ``(..., l)``, in order.
        real: which positions are events, ``(..., l)`` bool; the others follow them and stay.

    Returns:
        ``(..., l)`` positions.
    """
    new_moment = torch.ones_like(real)
    new_moment[..., 1:] = (times[..., 1:] != times[..., :-1]) | ~real[..., 1:]
    moment = new_moment.cumsum(-1)
    return (moment + torch.rand(times.shape, dtype=torch.float64)).argsort(dim=-1)


def times_as_target(
    users: np.ndarray, times: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """How often each event is a target of a window, on average, if events at the same time take each
    other's places: all events of a window are targets but the one that comes first.

    Args:
        users: of each event, ``(N,)``, those of a user one after another in order of time.
        times: likewise.
        first: the first row of each window, ``(n,)``.
        last: its last row, ``(n,)``, later than the first.

    Returns:
        ``(N,)`` float64
    """
    ends_moment = np.r_[(users[1:] != users[:-1]) | (times[1:] != times[:-1]), True]
    size = last - first + 1
    tied = np.minimum(steps_to_end(ends_moment)[first] + 1, size)
    count = np.zeros(len(users))
    np.add.at(count, rows_of_runs(first, size), 1)
    np.subtract.at(count, rows_of_runs(first, tied), 1 / np.repeat(tied, tied))
    return count
