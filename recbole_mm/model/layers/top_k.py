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


class BestSoFar:
    """The largest scores of each row, whose columns come block by block.

    What does not change a list is only compared with its end, at the speed of the cache.

    Args:
        rows: ``b``.
        k: scores that are kept of each.
        like: a tensor of the dtype and on the device of the scores.

    Attributes:
        values: ``(b, k)``, largest first; -inf where there were fewer.
        columns: of these, ``(b, k)``.
    """

    def __init__(self, rows: int, k: int, like: Tensor):
        self.values = like.new_full((rows, k), -torch.inf)
        self.columns = torch.zeros(rows, k, dtype=torch.long, device=like.device)

    def add(self, scores: Tensor, first: int) -> None:
        """Take in the scores ``(b, n)`` of the columns that begin with ``first``.

        Among equal scores those of earlier blocks are kept.
        """
        k = self.values.shape[1]
        rows = (scores.amax(dim=1) > self.values[:, -1]).nonzero().squeeze(1)
        if len(rows) == 0:
            return
        block = scores if len(rows) == len(scores) else scores[rows]
        values, columns = top_k(block, min(k, block.shape[1]))
        values = torch.cat([self.values[rows], values], dim=1)
        columns = torch.cat([self.columns[rows], columns + first], dim=1)
        self.values[rows], place = values.topk(k, dim=1)
        self.columns[rows] = columns.gather(1, place)
