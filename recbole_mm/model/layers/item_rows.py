r"""Order and number of the entries in parameters and buffers with one entry per item, such as ID
embeddings.

They are selected by ``axes``: a glob pattern of names, and the axis of the items.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import torch
from torch import Tensor, nn


class OtherItems(ValueError):
    """The items differ from those of a stored table."""


def tables_of_items(
    module: nn.Module, axes: Mapping[str, int], n_items: int
) -> dict[str, tuple[Tensor, int]]:
    """The tensors of a state that have ``n_items`` entries on the axis of the items, by name."""
    return {
        name: (tensor, axis)
        for name, tensor in module.state_dict().items()
        for pattern, axis in axes.items()
        if fnmatch(name, pattern) and tensor.dim() > axis and tensor.shape[axis] == n_items
    }


def stored_rows(stored: Sequence[str], items: Sequence[str]) -> list[int]:
    """The row of each item in a stored table.

    Raises:
        OtherItems: the two are not the same items.
    """
    row_of = {token: row for row, token in enumerate(stored)}
    missing = [token for token in items if token not in row_of]
    if missing or len(stored) != len(items):
        raise OtherItems(
            f"{len(missing)} of the {len(items) - 1} items of the data are not in it, e.g. "
            f"{missing[:3]}. Its IDs are for {stored[1:4]}, ..."
        )
    return [row_of[token] for token in items]


@torch.no_grad()
def reorder(tables: Mapping[str, tuple[Tensor, int]], rows: Sequence[int]) -> None:
    """Replace entry ``i`` by entry ``rows[i]``, in place."""
    for tensor, axis in tables.values():
        order = torch.tensor(rows, device=tensor.device)
        tensor.copy_(tensor.index_select(axis, order))


def append_zeros(module: nn.Module, tables: Mapping[str, tuple[Tensor, int]], n: int) -> None:
    """Replace the parameters in ``tables`` by new ones in ``module``, with ``n`` more, zero
    items."""
    parameters = dict(module.named_parameters())
    for name in parameters.keys() & tables.keys():
        tensor, axis = tables[name]
        shape = [*tensor.shape[:axis], n, *tensor.shape[axis + 1 :]]
        owner, _, own_name = name.rpartition(".")
        extended = nn.Parameter(torch.cat([tensor, tensor.new_zeros(shape)], dim=axis))
        setattr(module.get_submodule(owner), own_name, extended)
