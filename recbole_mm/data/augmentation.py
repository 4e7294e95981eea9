"""Training examples that differ from epoch to epoch: parts of windows, other orders of ties."""

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
