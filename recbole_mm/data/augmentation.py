"""Training examples that vary by epoch: parts of windows, shuffled ties."""

import numpy as np
import torch
from torch import Tensor

from recbole_mm.data.sequences import rows_of_runs, steps_to_end


def random_crops(first: Tensor, end: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Crop some windows to a random length at a random position.

    Args:
        first: first row of each window, ``(b,)``.
        end: row after the last one of each window, ``(b,)``.
        share: average share of windows that are cropped.

    Returns:
        ``first`` and ``end`` of each window, at least one row apart.
    """
    size = end - first
    length = 1 + (torch.rand(len(size)) * size).long()
    start = (torch.rand(len(size)) * (size - length + 1)).long()
    cut = torch.rand(len(size)) < share
    return torch.where(cut, first + start, first), torch.where(cut, first + start + length, end)


def shuffled_ties(times: Tensor, real: Tensor) -> Tensor:
    """An order of positions that shuffles events at the same time.

    Args:
        times: event times, ``(..., l)``, ascending.
        real: whether a position is an event, ``(..., l)`` bool; the others follow and do not move.

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
    """How often each event is a target of a window, on average, if events at the same time are
    shuffled: all events of a window are targets except the first one.

    Args:
        users: user of each event, ``(N,)``, sorted by user and time.
        times: time of each event, ``(N,)``.
        first: first row of each window, ``(n,)``.
        last: last row of each window, ``(n,)``, after the first.

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
