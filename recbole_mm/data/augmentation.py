"""Training examples that differ from epoch to epoch: parts of windows, other orders of ties."""

import numpy as np
import torch
from torch import Tensor


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
    last_of_moment = np.flatnonzero(ends_moment)[np.cumsum(ends_moment) - ends_moment]
    count = np.zeros(len(users))
    np.add.at(count, _rows_between(first, last - first + 1), 1)
    tied = np.minimum(last_of_moment[first], last) - first + 1
    np.subtract.at(count, _rows_between(first, tied), 1 / np.repeat(tied, tied))
    return count


def _rows_between(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The rows ``[first, first + size)`` of each window, one window after the other."""
    ends = np.cumsum(size)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + size, size)
