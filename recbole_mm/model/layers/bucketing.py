r"""Rows of similar length are computed together, so that padding costs next to nothing."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class LengthGroup(NamedTuple):
    """Rows ``index`` of a batch, none of which is longer than ``longest``."""

    index: Tensor
    longest: int


def group_by_length(lengths: Tensor, positions: int) -> list[LengthGroup]:
    """Split a batch into groups of rows of similar length, short ones first.

    Groups are about equally large in positions, so many short rows stand together.

    Args:
        lengths: ``(b,)`` int, ``>= 1``.
        positions: most positions of a group, rows times the longest of them (one row may be
            longer); 0 keeps all rows together (a GPU likes one large group).
    """
    order = lengths.argsort(stable=True)
    ascending = lengths[order].tolist()
    groups, start = [], 0
    for end in range(1, len(ascending) + 1):
        if end == len(ascending) or (0 < positions < (end + 1 - start) * ascending[end]):
            groups.append(LengthGroup(order[start:end], ascending[end - 1]))
            start = end
    return groups


def ungroup(outputs: list[Tensor], groups: list[LengthGroup]) -> Tensor:
    """One output per row of each group, back in the order of the batch: ``(b, ...)``."""
    order = torch.cat([group.index for group in groups])
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    return torch.cat(outputs)[position]


def map_by_length(
    function: Callable[[Tensor, int], Tensor], lengths: Tensor, positions: int = 1024
) -> Tensor:
    """Compute one output per row, group by group.

    Args:
        function: ``(index, longest) -> (len(index), ...)``: the outputs of the rows ``index``, none
            of which is longer than ``longest``; it must not depend on the other rows.
        lengths: ``(b,)`` int, ``>= 1``.
        positions: see :func:`group_by_length`.

    Returns:
        ``(b, ...)``, in the order of the rows.
    """
    groups = group_by_length(lengths, positions)
    return ungroup([function(*group) for group in groups], groups)
