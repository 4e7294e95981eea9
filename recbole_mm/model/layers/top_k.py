"""The largest scores of each row, without a heap over all of them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64
CROWD = 64
"""Maximum number of columns per item of a list that are computed exactly."""
WORTHWHILE = 4
"""Minimum ratio of all scores to the scores that are read twice."""


def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Same result as ``scores.topk(k, dim=1)``, except that ties may be broken differently.

    The ``k`` largest scores of a row are in the ``k`` chunks whose maxima are largest. Maxima are
    computed at the speed of memory, and only the scores in these chunks are sorted.

    Args:
        scores: ``(b, n)``.
        k: number of scores to find in each row, at most ``n``.

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


def lowest(dtype: torch.dtype) -> float | int:
    """A value below every score: -inf, or the smallest integer."""
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min


class BestSoFar:
    """The largest scores of each row, with columns that arrive block by block.

    As in :func:`top_k`, the ``k`` largest scores are in the chunks whose maxima are largest. Chunks
    are kept while their maximum is among these; all others are only compared, at the speed of the
    cache.

    Scores may be approximations: then every column that can be among the ``k`` best is kept.

    Args:
        rows: ``b``.
        k: number of scores to find in each row.
        like: tensor with the dtype and the device of the scores.
        slack: distance from the ``k``-th best score within which a column may still be among the
            best, ``(b,)``, positive; ``None``: scores are exact, and of equal ones the first
            columns are listed.

    Attributes:
        is_crowded: whether the slack left too many columns, so that there is no result.
    """

    def __init__(self, rows: int, k: int, like: Tensor, slack: Tensor | None = None):
        self.rows, self.k, self.slack = rows, k, slack
        self.lowest = lowest(like.dtype)
        self.limit = like.new_full((rows,), self.lowest)  # at most the k-th largest score so far
        self.kept: list[tuple[Tensor, Tensor, Tensor]] = []  # row, first column and scores
        self.n_kept, self.most_kept = 0, (8 if slack is None else 32) * k * rows
        self.is_crowded = False

    def add(self, scores: Tensor, first: int) -> None:
        """Add the scores ``(b, n)`` of the columns that start at ``first``."""
        if self.is_crowded:
            return
        rest = -scores.shape[1] % CHUNK
        if rest:
            scores = F.pad(scores, (0, rest), value=self.lowest)
        n_chunks = scores.shape[1] // CHUNK
        maxima = scores.unflatten(1, (n_chunks, CHUNK)).amax(dim=2)
        passed = self.limit
        if not self.kept and n_chunks >= self.k:
            self.limit = torch.maximum(self.limit, maxima.topk(self.k, dim=1).values[:, -1])
        keeps = maxima >= self._reach().unsqueeze(1)
        if self.slack is None:  # an equal score in a later column is not listed
            keeps &= maxima > passed.unsqueeze(1)
        place = keeps.flatten().nonzero().squeeze(1)
        row = torch.div(place, n_chunks, rounding_mode="floor")
        column = first + (place - row * n_chunks) * CHUNK
        self.kept.append((row, column, scores.reshape(-1, CHUNK).index_select(0, place)))
        self.n_kept += len(row)
        if self.n_kept > self.most_kept:
            self._compact()

    def _reach(self) -> Tensor:
        """The minimum score to be listed, ``(b,)``."""
        if self.slack is None:
            return self.limit
        return torch.where(self.limit > self.lowest, self.limit - self.slack, self.lowest + 1)

    def _compact(self) -> None:
        """Discard the kept chunks that no longer matter."""
        row, first, scores = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        maxima = scores.amax(dim=1)
        order = row.argsort(stable=True)
        place = _places(row[order], self.rows)
        width = max(self.k, int(place.max()) + 1) if len(row) else self.k
        by_row = maxima.new_full((self.rows, width), self.lowest)
        by_row[row[order], place] = maxima[order]
        self.limit = torch.maximum(self.limit, by_row.topk(self.k, dim=1).values[:, -1])
        matters = (maxima >= self._reach()[row]).nonzero().squeeze(1)
        self.kept = [(row[matters], first[matters], scores.index_select(0, matters))]
        self.n_kept = len(matters)
        if 2 * self.n_kept > self.most_kept and self.slack is not None:
            self.is_crowded, self.kept, self.n_kept = True, [], 0

    def result(
        self, exact: Callable[[Tensor, Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor] | None:
        """Values and columns, ``(b, k)`` each, largest first and ties in the order of their
        columns; -inf and 0 where there are fewer. ``None`` if ``is_crowded``.

        Args:
            exact: function from rows and columns, ``(n,)`` each, to their exact scores, if the
                added scores are approximations.
        """
        row, column, value = self._candidates()
        self.is_crowded |= self.slack is not None and len(row) > CROWD * self.k * self.rows
        if self.is_crowded:
            return None
        if exact is not None:
            value = exact(row, column)
        place = _places(row, self.rows)
        width = max(self.k, int(place.max()) + 1) if len(row) else self.k
        values = value.new_full((self.rows, width), -torch.inf)
        columns = torch.zeros_like(values, dtype=torch.long)
        values[row, place], columns[row, place] = value, column
        values, order = values.sort(dim=1, descending=True, stable=True)
        return values[:, : self.k], columns.gather(1, order[:, : self.k])

    def _candidates(self) -> tuple[Tensor, Tensor, Tensor]:
        """Row, column and score of all entries that can be listed, in the order of rows and
        columns."""
        if self.kept:
            self._compact()
        if not self.kept:
            nothing = self.limit.new_zeros(0)
            return nothing.long(), nothing.long(), nothing
        row, first, scores = self.kept[0]
        reach = self._reach()[row].unsqueeze(1)
        place = ((scores >= reach) & (scores > self.lowest)).flatten().nonzero().squeeze(1)
        chunk = torch.div(place, CHUNK, rounding_mode="floor")
        row, column = row[chunk], first[chunk] + place - chunk * CHUNK
        order = row.argsort(stable=True)
        return row[order], column[order], scores.flatten()[place[order]]


def _places(row: Tensor, n_rows: int) -> Tensor:
    """The position of each entry within its row, for ascending rows ``(n,)``."""
    counts = torch.bincount(row, minlength=n_rows)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(row), device=row.device) - starts[row]
