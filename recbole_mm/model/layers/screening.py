r"""Dot products in whole numbers of 8 bits, to find the few that have to be computed exactly.

Symbols: ``b`` users, ``n`` items, ``d`` their width.
"""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST = 127  # of 8 bits with a sign
ROUNDING = 1e-6
"""Error of a float32 dot product per width 64, relative to the lengths of its factors."""
SMALLEST, MOST_UNITS = 1e-18, 1 << 30  # so that no product underflows, no sum overflows
ITEMS_AT_ONCE = 65_536


def is_fast(device: torch.device) -> bool:
    """Whether products of 8 bits are several times as fast there as those of float32.

    Both functions of torch are not public: where a release lacks one, scores are computed in float32.
    """
    is_supported = getattr(torch.cpu, "_is_vnni_supported", None)
    return (
        device.type == "cpu" and hasattr(torch, "_int_mm") and bool(is_supported and is_supported())
    )


class Screen(NamedTuple):
    """Items ``(n, d)`` in 8 bits, without what they have in common: their mean adds the same to all
    scores of a user.

    Attributes:
        table: ``(n, d)`` int8.
        scale: of all items: an item less the mean is about ``scale * table``.
        length: of the longest item.
        spread: of the item that is farthest from the mean, the distance.
        error: of the worst item, the length of what rounding changed.
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
        """The items ``[first, last)`` alone."""
        return self._replace(table=self.table[first:last])

    def read(self, users: Tensor) -> "Approximation":
        r"""Approximate scores of users ``(b, d)``, finite, in units of their own.

        By the inequality of Cauchy and Schwarz the product of rounded vectors differs from that of
        the vectors ``u`` and ``v`` themselves by at most
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
        table: of the items, ``(n, d)`` int8.
        users: ``(b, d)`` int8.
        unit: of the approximate scores of each user, ``(b,)``.
        slack: two scores that differ by more are in the right order, ``(b,)`` int32.
    """

    table: Tensor
    users: Tensor
    unit: Tensor
    slack: Tensor

    def in_units(self, row: Tensor, value: Tensor) -> Tensor | None:
        """What is added to single scores of some users, ``(n,)`` each, in whole units; ``None``: more
        than these can hold. A rounded unit is added to the slack."""
        units = (value / self.unit[row]).round()
        if units.numel() and units.abs().amax() > MOST_UNITS // 4:
            return None
        self.slack.add_(1)
        return units.int()

    def block(self, first: int, last: int) -> Tensor:
        """Scores of the items ``[first, last)``, ``(b, last - first)`` int32."""
        return torch._int_mm(self.users, self.table[first:last].T)


def _scale(largest: Tensor) -> Tensor:
    """One unit, for numbers of at most this size."""
    return (largest / LARGEST).clamp(min=SMALLEST)
