r"""How much more, or less, an item is wanted that the user has had before."""

import torch
from torch import Tensor, nn

REPEATS = ("shared", "recency")
STEP = 10.0
"""An optimizer's step on the parameter moves a logit by so many steps: a score of minus ten, which
takes an item out of the ranking, is then a matter of an epoch."""


def last_occurrences(item_seq: Tensor, end: Tensor) -> Tensor:
    """Where an item of a sequence occurs for the last time before its end.

    Args:
        item_seq: ``(b, L)``, right-padded.
        end: number of events that count, ``(b,)`` or, for several ends per row, ``(b, k)``.

    Returns:
        bool, ``(b, L)`` or ``(b, k, L)``: each distinct item of the first ``end`` events once.
    """
    length = item_seq.shape[1]
    position = torch.arange(length, device=item_seq.device)
    equal = item_seq.unsqueeze(2) == item_seq.unsqueeze(1)
    later = equal & (position > position.unsqueeze(1))
    following = torch.where(later, position, length).amin(dim=2)  # (b, L): the next occurrence
    if end.dim() == 2:
        end, following = end.unsqueeze(2), following.unsqueeze(1)
    else:
        end = end.unsqueeze(1)
    return (position < end) & (following >= end)


class RepeatPropensity(nn.Module):
    r"""A learned number that is added to the score of every item in the history.

    Where nobody takes an item twice it becomes very negative, and the history leaves the ranking;
    where people come back it becomes positive. It starts at 0, where it changes nothing.

    Args:
        length: of the longest history.
        by: ``shared``, one number; ``recency``, one for each number of events since the item.
    """

    def __init__(self, length: int, by: str):
        super().__init__()
        self.by = by
        self.weight = nn.Parameter(torch.zeros(length if by == "recency" else 1))

    def forward(self, item_seq: Tensor, end: Tensor) -> Tensor:
        """What is added for the item at each position, 0 at padding and all but its last place.

        Args:
            item_seq: ``(b, L)``, right-padded.
            end: see :func:`last_occurrences`.

        Returns:
            ``(b, L)`` or ``(b, k, L)``.
        """
        counted = last_occurrences(item_seq, end)
        value = STEP * self.weight
        if self.by == "recency":
            position = torch.arange(item_seq.shape[1], device=item_seq.device)
            since = (end.unsqueeze(-1) - 1 - position).clamp(min=0)
            value = value[since]
        return torch.where(counted, value, 0)
