"""One module for each domain of a mixture."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class PerDomain(nn.ModuleList):
    """Modules of the same kind, each for the items of its domain.

    Args:
        modules: modules in the order of the domains.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        super().__init__(modules)

    def forward(self, domain: Tensor, *inputs: Tensor) -> Tensor:
        """Apply the module of its domain to every row.

        Args:
            domain: index of each item's domain, ``(n,)`` int64; -1, the padding item, counts as 0.
            inputs: inputs of the modules, ``(n, ...)`` each.

        Returns:
            outputs of the modules, ``(n, ...)``.
        """
        domain = domain.clamp(min=0)
        rows = [(domain == number).nonzero().squeeze(1) for number in range(len(self))]
        parts = [
            module(*(each[own] for each in inputs)) for module, own in zip(self, rows, strict=True)
        ]
        return torch.cat(parts)[torch.cat(rows).argsort()]
