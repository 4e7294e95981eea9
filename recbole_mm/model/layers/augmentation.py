r"""Augmented views of a history: items dropped, features dropped."""

import torch
import torch.nn.functional as F
from torch import Tensor


def drop_items(
    item_seq: Tensor, length: Tensor, keep: Tensor, released: bool = False
) -> tuple[Tensor, Tensor]:
    """Drop items from histories, close the gaps, shorten the lengths.

    The first item always stays.

    Args:
        item_seq: ``(b, l)``, right-padded with 0.
        length: ``(b,)``, ``>= 1``.
        keep: ``(b, l)`` bool, False where an item is dropped; ignored in the padding.
        released: whether the last item of a run of dropped items replaces the kept item before it,
            as in the authors' scatter over repeated indices.

    Returns:
        The histories ``(b, l)``, right-padded with 0, and their lengths.
    """
    position = torch.arange(item_seq.shape[1], device=item_seq.device)
    real = position < length.unsqueeze(1)
    keep = (keep | (position == 0)) & real
    new_length = keep.sum(1)
    target = keep.cumsum(1) - 1
    if released:
        ends_here = F.pad(keep[:, 1:], (0, 1)) | (position == length.unsqueeze(1) - 1)
        keep = ends_here & real
    # items that are not written go to a spare column, which is cut off afterwards
    target = target.masked_fill(~keep, item_seq.shape[1])
    dropped = item_seq.new_zeros(item_seq.shape[0], item_seq.shape[1] + 1)
    return dropped.scatter_(1, target, item_seq)[:, :-1], new_length


def drop_features(features: Tensor, ratio: float) -> Tensor:
    """Zero each entry with probability ``ratio`` and scale the others by ``1 / (1 - ratio)``."""
    return F.dropout(features, ratio, training=True)
