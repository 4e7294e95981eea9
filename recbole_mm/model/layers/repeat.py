r"""A learned repeat propensity: how likely users are to choose an item of their history again."""

import torch
from torch import Tensor, nn

REPEATS = ("none", "shared", "recency")
STEP = 10.0
"""Factor of the learned parameter: one optimizer step moves a logit by this many steps, so that a
score of minus ten, which removes an item from the ranking, is reached within an epoch."""


def next_occurrences(item_seq: Tensor) -> Tensor:
    """Position where the item of each position occurs next, ``L`` if never: ``(b, L)``.

    Args:
        item_seq: ``(b, L)``.
    """
    length = item_seq.shape[1]
    position = torch.arange(length, device=item_seq.device)
    later = (item_seq.unsqueeze(2) == item_seq.unsqueeze(1)) & (position > position.unsqueeze(1))
    return torch.where(later, position, length).amin(dim=2)


class RepeatPropensity(nn.Module):
    r"""A learned number that is added to the score of every item in the history.

    If nobody chooses an item again, it becomes very negative, and the history drops out of the
    ranking; if users repeat items, it becomes positive. It starts at 0, without effect.

    Args:
        length: length of the longest history.
        by: ``shared``: one number; ``recency``: one for each number of events since the item.
    """

    def __init__(self, length: int, by: str):
        super().__init__()
        self.by = by
        self.weight = nn.Parameter(torch.zeros(length if by == "recency" else 1))

    def forward(self, item_seq: Tensor, end: Tensor, row: Tensor | None = None) -> Tensor:
        """Compute the addition for the item at each position; each distinct item counts once, at
        its last position, and padding does not count.

        Args:
            item_seq: ``(b, L)``, right-padded.
            end: number of events that count, ``(n,)``.
            row: row of ``item_seq`` for each end, ``(n,)``; by default ``n = b`` rows in order.

        Returns:
            ``(n, L)``
        """
        following = next_occurrences(item_seq)
        following = following if row is None else following[row]
        position, end = torch.arange(item_seq.shape[1], device=item_seq.device), end.unsqueeze(1)
        value = STEP * self.weight
        if self.by == "recency":
            value = value[(end - 1 - position).clamp(min=0)]
        return torch.where((position < end) & (following >= end), value, 0)
