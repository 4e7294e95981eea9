"""Compute values once per item, block by block."""

from collections.abc import Callable

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def in_blocks(function: Callable, item_id: Tensor, size: int):
    """Compute ``function(item_id)`` one block of items at a time.

    Args:
        function: function of item ids ``(n,)`` that returns tensors with one row per item, and
            other values that are the same for all items, in any nesting of tuples, lists and dicts.
        item_id: ``(n,)``, not empty.
        size: number of items in a block.

    Returns:
        the result of the function, with the rows of all blocks.
    """
    whole, form = None, None
    for first in range(0, len(item_id), size):
        leaves, form = tree_flatten(function(item_id[first : first + size]))
        if whole is None:
            whole = [_room(leaf, len(item_id)) for leaf in leaves]
        for table, rows in zip(whole, leaves, strict=True):
            if _has_rows(rows):
                table[first : first + len(rows)] = rows
    return tree_unflatten(whole, form)


def _has_rows(leaf) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def _room(leaf, n: int):
    """Memory for the rows of ``n`` items; a value without rows is returned unchanged."""
    return leaf.new_empty(n, *leaf.shape[1:]) if _has_rows(leaf) else leaf
