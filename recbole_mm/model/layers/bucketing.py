r"""Rows of similar length are computed together, so that padding costs next to nothing."""

from collections.abc import Callable

import torch
from torch import Tensor


def map_by_length(
    function: Callable[[Tensor, int], Tensor], lengths: Tensor, rows: int = 128
) -> Tensor:
    """Compute one output per row, in groups of rows of similar length.

    Args:
        function: ``(index, longest) -> (len(index), ...)``: the outputs of the rows ``index``, none
            of which is longer than ``longest``; it must not depend on the other rows.
        lengths: ``(b,)`` int, ``>= 1``.
        rows: size of a group; 0 keeps all rows together (a GPU likes one large group).

    Returns:
        ``(b, ...)``, in the order of the rows.
    """
    order = lengths.argsort(stable=True)
    groups = order.split(rows or len(order))
    outputs = torch.cat([function(group, int(lengths[group[-1]])) for group in groups])
    position = torch.empty_like(order)
    position[order] = torch.arange(len(order), device=order.device)
    return outputs[position]
