r"""Dot products of 8-bit integers, to find the few that must be computed exactly.

Symbols: ``b`` users, ``n`` items, ``d`` their width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 127  # largest signed 8-bit integer
ROUNDING = 1e-6
"""Error of a float32 dot product per width 64, relative to the lengths of its factors."""
SMALLEST, MOST_UNITS = 1e-18, 1 << 30  # so that no product underflows, no sum overflows
ITEMS_AT_ONCE = 65_536


def is_fast(device: torch.device) -> bool:
    """Whether 8-bit products are several times as fast as float32 products on a device.

    The two torch functions used are not public: if a release lacks one, scores are computed in
    float32.
    """
    is_supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return (
        device.type == "cpu" and hasattr(torch, "_int_mm") and bool(is_supported and is_supported())
    )


class Screen(NamedTuple):
    """Items ``(n, d)`` in 8 bits, after subtracting their mean, which adds the same to all scores
    of a user.

    Attributes:
        table: ``(n, d)`` int8.
        scale: scale of all items: an item minus the mean is about ``scale * table``.
        length: largest norm of an item.
        spread: largest distance of an item from the mean.
        error: largest norm of the rounding error of an item.
    """

    table: Tensor
    scale: Tensor
    length: Tensor
    spread: Tensor
    error: Tensor

    @classmethod
    def from_items(cls, items: Tensor) -> "Screen":
        """Round items ``(n, d)``."""
        mean = items.mean(dim=0)
        parts = items.split(ITEMS_AT_ONCE)
        scale = _scale(torch.stack([(part - mean).abs().amax() for part in parts]).amax())
        table = torch.empty(items.shape, dtype=torch.int8)
        sizes = items.new_zeros(3)
        for part, rounded in zip(parts, table.split(ITEMS_AT_ONCE), strict=True):
            centered = part - mean
            rounded.copy_((centered / scale).round_())
            kinds = part, centered, centered - rounded * scale
            largest = torch.stack([kind.norm(dim=1).amax() for kind in kinds])
            sizes = torch.maximum(sizes, largest)
        return cls(table, scale, *sizes.unbind())

    def block(self, first: int, last: int) -> "Screen":
        """Only the items ``[first, last)``."""
        return self._replace(table=self.table[first:last])

    def read(self, users: Tensor) -> "Approximation":
        r"""Approximate the scores of users ``(b, d)``, finite, each user in its own unit.

        By the Cauchy-Schwarz inequality, the product of rounded vectors differs from that of the
        vectors ``u`` and ``v`` themselves by at most
        :math:`\|u - \hat u\| \max\|v\| + \|\hat u\| \max\|v - \hat v\|`.
        """
        scale = _scale(users.abs().amax(dim=1, keepdim=True))
        rounded = (users / scale).round_()
        back = rounded * scale
        error = (users - back).norm(dim=1) * self.spread + back.norm(dim=1) * self.error
        error += ROUNDING * (1 + users.shape[1] / 64) * users.norm(dim=1) * self.length
        unit = scale.squeeze(1) * self.scale
        slack = (2 * error / unit).clamp(max=MOST_UNITS).ceil().int() + 1
        return Approximation(self.table, rounded.to(torch.int8), unit, slack)


class Approximation(NamedTuple):
    """Approximate scores of users.

    Attributes:
        table: items, ``(n, d)`` int8.
        users: ``(b, d)`` int8.
        unit: unit of the approximate scores of each user, ``(b,)``.
        slack: largest difference between scores whose order may be wrong, ``(b,)`` int32.
    """

    table: Tensor
    users: Tensor
    unit: Tensor
    slack: Tensor

    def in_units(self, row: Tensor, value: Tensor) -> Tensor | None:
        """Convert additions to single scores of some users, ``(n,)`` each, to whole units; ``None``
        if they are too large. The slack grows by one unit for the rounding."""
        units = (value / self.unit[row]).round()
        if units.numel() and units.abs().amax() > MOST_UNITS // 4:
            return None
        self.slack.add_(1)
        return units.int()

    def block(self, first: int, last: int) -> Tensor:
        """Scores of the items ``[first, last)``, ``(b, last - first)`` int32."""
        return torch._int_mm(self.users, self.table[first:last].T)


def _scale(largest: Tensor) -> Tensor:
    """The unit for numbers of at most this size."""
    return (largest / LARGEST).clamp(min=SMALLEST)
