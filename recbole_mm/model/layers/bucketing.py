r"""Group rows of similar length, to avoid computing padding."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

GROUP_COST = 256  # one more group takes as long as this many positions


class LengthGroup(NamedTuple):
    """Rows ``index`` of a batch; ``longest`` is the length of the longest of them."""

    index: Tensor
    longest: int


def group_by_length(lengths: Tensor, positions: int) -> list[LengthGroup]:
    """Split a batch into groups of similar length at the least cost, short rows first.

    The cost of a group is its number of positions (rows times the longest length) plus
    ``GROUP_COST``. A group of more than ``positions`` positions is split.

    Args:
        lengths: ``(b,)`` int, ``>= 1``.
        positions: maximum size of a group, so that it fits the cache (one row may be longer); 0
            keeps all rows together (best on a GPU).

    Raises:
        ValueError: a length is below 1.
    """
    shortest, longest = torch.stack(lengths.aminmax()).tolist()
    if shortest < 1:
        raise ValueError(
            f"row {int(lengths.argmin())} of the batch has an empty history: a model needs an event"
        )
    if not positions:
        everyone = torch.arange(len(lengths), device=lengths.device)
        return [LengthGroup(everyone, longest)]
    order = lengths.argsort(stable=True)
    length, count = np.unique(lengths.cpu().numpy(), return_counts=True)
    groups = []
    for rows, longest in _cheapest_runs(length, count, positions):
        pieces = order[rows].split(max(1, positions // longest))
        groups += [LengthGroup(piece, longest) for piece in pieces]
    return groups


def _cheapest_runs(
    length: np.ndarray, count: np.ndarray, positions: int
) -> list[tuple[slice, int]]:
    """Ranges of sorted rows and the longest length in each, found by dynamic programming over the
    distinct lengths."""
    rows_before = np.r_[0, count.cumsum()]
    cost, first = np.zeros(len(length) + 1), np.zeros(len(length) + 1, dtype=int)
    for last in range(1, len(length) + 1):
        longest = length[last - 1]
        rows = rows_before[last] - rows_before[:last]
        pieces = np.ceil(rows / max(1, positions // longest))
        total = cost[:last] + rows * longest + GROUP_COST * pieces
        first[last] = total.argmin()
        cost[last] = total[first[last]]
    runs, last = [], len(length)
    while last:
        rows = slice(int(rows_before[first[last]]), int(rows_before[last]))
        runs.append((rows, int(length[last - 1])))
        last = first[last]
    return runs[::-1]


def ungroup(outputs: list[Tensor], groups: list[LengthGroup]) -> Tensor:
    """Outputs per row of each group, in the order of the batch: ``(b, ...)``."""
    order = torch.cat([group.index for group in groups])
    position = torch.empty_like(order)
    position[order] = torch.arange(order.shape[0], device=order.device)
    return torch.cat(outputs)[position]


def gather_positions(
    outputs: list[Tensor], groups: list[LengthGroup], lengths: Tensor, padding: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs of all real positions, one after another.

    Args:
        outputs: outputs of each group, ``(rows, longest, D)``.
        groups: rows of each group.
        lengths: lengths of the rows of the batch, ``(b,)``.
        padding: whether padding positions are included too, so that their number does not depend
            on the lengths.

    Returns:
        ``(n, D)``, and the batch row and position of each, ``(n,)``.
    """
    parts = []
    for output, (index, longest) in zip(outputs, groups, strict=True):
        position = torch.arange(longest, device=index.device).expand(len(index), -1)
        row = index.unsqueeze(1).expand(-1, longest)
        if padding:
            parts.append((output.flatten(0, 1), row.flatten(), position.flatten()))
            continue
        real = position < lengths[index].unsqueeze(1)
        parts.append((output[real], row[real], position[real]))
    vectors, rows, positions = (torch.cat(values) for values in zip(*parts, strict=True))
    return vectors, rows, positions


def map_by_length(function: Callable[[Tensor, int], Tensor], groups: list[LengthGroup]) -> Tensor:
    """Compute one output per row, group by group.

    Args:
        function: ``(index, longest) -> (len(index), ...)``: the outputs of the rows ``index``, the
            longest of which has length ``longest``; an output must not depend on other rows.
        groups: see :func:`group_by_length`.

    Returns:
        ``(b, ...)``, in the order of the rows.
    """
    return ungroup([function(*group) for group in groups], groups)
