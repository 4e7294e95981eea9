"""The largest scores of each row, without a heap over all of them."""

import torch
from torch import Tensor

CHUNK = 64
WORTHWHILE = 4
"""How many times the scores that are looked at twice all scores must be."""


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What ``scores.topk(k, dim=1)`` gives; among equal scores the choice may differ.

    The ``k`` largest of a row are in the ``k`` chunks whose maxima are largest. Maxima are computed
    at the speed of memory, and only what is in these chunks is sorted.

    Args:
        scores: ``(b, n)``.
        k: at most ``n``.

    Returns:
        values and columns, ``(b, k)`` each, largest first.
    """
    n_chunks = scores.shape[1] // CHUNK
    if n_chunks < WORTHWHILE * k:
        return scores.topk(k, dim=1)
    end = n_chunks * CHUNK
    maxima = scores[:, :end].unflatten(1, (n_chunks, CHUNK)).amax(dim=2)
    start = maxima.topk(k, dim=1).indices * CHUNK
    within = torch.arange(CHUNK, device=scores.device)
    columns = (start.unsqueeze(2) + within).flatten(1)
    rest = torch.arange(end, scores.shape[1], device=scores.device)
    columns = torch.cat([columns, rest.expand(len(scores), -1)], dim=1)
    values, place = scores.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, place)
