"""The largest scores of each row, without a heap over all of them."""

import torch
import torch.nn.functional as F
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

    As in :func:`top_k`, the ``k`` largest are in the chunks whose maxima are largest. Chunks are kept
    while their maximum is among these; all others are only compared, at the speed of the cache.

    Args:
        rows: ``b``.
        k: scores that are wanted of each.
        like: a tensor of the dtype and on the device of the scores.
    """

    def __init__(self, rows: int, k: int, like: Tensor):
        self.k = k
        self.maxima = like.new_full((rows, k), -torch.inf)  # the largest of all chunks so far
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []  # row, first column and scores
        self.most_kept = 8 * k * rows

    @property
    def limit(self) -> Tensor:
        """What a score must reach to be listed, ``(b,)``."""
        return self.maxima[:, -1]

    def add(self, scores: Tensor, first: int) -> None:
        """Take in the scores ``(b, n)`` of the columns that begin with ``first``."""
        rest = -scores.shape[1] % CHUNK
        if rest:
            scores = F.pad(scores, (0, rest), value=-torch.inf)
        chunks = scores.unflatten(1, (-1, CHUNK))
        maxima = chunks.amax(dim=2)
        is_better = maxima > self.limit.unsqueeze(1)
        self.maxima = torch.cat([self.maxima, maxima], dim=1).topk(self.k, dim=1).values
        row, chunk = (is_better & (maxima >= self.limit.unsqueeze(1))).nonzero(as_tuple=True)
        self.kept.append((row, first + chunk * CHUNK, chunks[row, chunk]))
        if sum(len(rows) for rows, *_ in self.kept) > self.most_kept:
            self.kept = [self._listed()]

    def _listed(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of what is kept, the chunks that still matter."""
        row, first, scores = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        matters = scores.amax(dim=1) >= self.limit[row]
        return row[matters], first[matters], scores[matters]

    def result(self) -> tuple[Tensor, Tensor]:
        """Values and columns, ``(b, k)`` each, largest first and equal ones in the order of their
        columns; -inf and 0 where there are fewer."""
        values = torch.full_like(self.maxima, -torch.inf)
        columns = torch.zeros_like(values, dtype=torch.long)
        if not self.kept:
            return values, columns
        row, first, scores = self._listed()
        place, column = ((scores >= self.limit[row].unsqueeze(1)) & (scores > -torch.inf)).nonzero(
            as_tuple=True
        )
        row, column, score = row[place], first[place] + column, scores[place, column]
        order = score.argsort(descending=True, stable=True)
        order = order[row[order].argsort(stable=True)]
        row, column, score = row[order], column[order], score[order]
        rank = torch.arange(len(row), device=row.device) - torch.searchsorted(row, row)
        listed = rank < self.k
        where = row[listed], rank[listed]
        values[where], columns[where] = score[listed], column[listed]
        return values, columns
