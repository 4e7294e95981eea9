"""The best candidates of users, from batches of their histories."""

from typing import NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_mm.model.layers.top_k import top_k
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.recommend.histories import Part

BATCH_SIZE = 1024

SCORES_PER_BLOCK = 16_000_000
"""Scores in memory at once, 64 MB of float32."""


class Ranked(NamedTuple):
    """The best items of some users, best first.

    Attributes:
        item_id: ``(n_users, k)``; 0 behind the end of a list.
        score: ``(n_users, k)`` float32.
        popular: whether a list is that of the most popular items, ``(n_users,)`` bool.
    """

    item_id: np.ndarray
    score: np.ndarray
    popular: np.ndarray


class Ranker:
    """Ranks candidates with a model; users without a known event get the most popular candidates.

    Args:
        model: of ours, on its device; it is put into evaluation.
        catalog: its items.
        k: length of a list.
        items: ids of the candidates; ``None``: all.
        exclude: ids that are no candidates; ``None``: none.
        filter_seen: leave out what a user has had.
        batch_size: histories that the model reads at once.
        request_time: unix seconds, for models that read when the recommendation is asked for.

    Raises:
        CatalogError: fewer than ``k`` candidates.
    """

    def __init__(
        self,
        model,
        catalog: Catalog,
        k: int,
        items: Tensor | None = None,
        exclude: Tensor | None = None,
        filter_seen: bool = False,
        batch_size: int = BATCH_SIZE,
        request_time: float = 0.0,
    ):
        self.model, self.k, self.filter_seen = model.eval(), k, filter_seen
        self.batch_size, self.request_time = batch_size, request_time
        device = model.device
        allowed = torch.zeros(len(catalog.tokens), dtype=torch.bool)
        allowed[slice(1, None) if items is None else items] = True
        allowed &= catalog.offered
        if exclude is not None:
            allowed[exclude] = False
        self.candidates = allowed.nonzero().squeeze(1)
        if len(self.candidates) < k:
            raise CatalogError(
                f"k is {k}, but there are {len(self.candidates)} candidates; give a smaller k or "
                f"more items"
            )
        self.column = torch.full((len(catalog.tokens),), -1)
        self.column[self.candidates] = torch.arange(len(self.candidates))
        self.by_popularity = catalog.counts[self.candidates].argsort(descending=True, stable=True)
        self.popularity = catalog.counts[self.candidates].float()
        with torch.no_grad():
            self.items = model.all_items()
            chosen = model.candidate_rows(self.items, self.candidates.to(device))
            self.scores = model.scores(chosen)
        never = model.never_recommended()[self.candidates.to(device)]
        self.never = never if never.any() else None

    @torch.no_grad()
    def rank(self, part: Part, own_candidates: Part | None = None, progress=None) -> Ranked:
        """The ``k`` best candidates of each user.

        Args:
            part: histories.
            own_candidates: the same users in the same order, with the items that each may get;
                ``None``: all candidates.
            progress: called with the number of users of every block that is done.
        """
        n_users = len(part.users)
        item_id = np.zeros((n_users, self.k), dtype=np.int64)
        score = np.full((n_users, self.k), -np.inf, dtype=np.float32)
        order = np.argsort(part.lengths, kind="stable")  # rows of a batch of similar length
        n_without = int((part.lengths == 0).sum())
        rows_per_block = max(1, SCORES_PER_BLOCK // len(self.candidates))
        for rows in _split(order[n_without:], self.batch_size):
            batch = self.batch(part, rows)
            users = self.model.encode(batch, self.items)
            repeats = self.model.history_additions(batch)
            for block in _split(np.arange(len(rows)), rows_per_block):
                place = slice(block[0], block[-1] + 1)
                scores = self.scores(users[place])
                if repeats is not None:
                    self._add(scores, repeats.column[place], repeats.value[place])
                best = self._best(scores, part, rows[place], own_candidates)
                item_id[rows[place]], score[rows[place]] = best
                if progress:
                    progress(len(block))
        for rows in _split(order[:n_without], rows_per_block):
            item_id[rows], score[rows] = self._most_popular(rows, own_candidates)
            if progress:
                progress(len(rows))
        return Ranked(item_id, score, part.lengths == 0)

    def batch(self, part: Part, rows: np.ndarray) -> Interaction:
        """What the model reads of some users, ``rows`` of a part, with their latest events."""
        model = self.model
        length = model.max_seq_length
        places, n = part.latest(rows, length)
        real = np.arange(places.shape[1]) < n[:, None]
        item_seq = torch.zeros(len(rows), length, dtype=torch.long)
        times = torch.zeros(len(rows), length, dtype=torch.float64)
        item_seq[:, : places.shape[1]] = torch.from_numpy(np.where(real, part.items[places], 0))
        if part.times is not None:
            times[:, : places.shape[1]] = torch.from_numpy(np.where(real, part.times[places], 0))
        batch = {
            model.ITEM_SEQ: item_seq,
            model.ITEM_SEQ_LEN: torch.from_numpy(n),
            model.TIME_SEQ: times,
            model.TIME: torch.full((len(rows),), self.request_time, dtype=torch.float64),
        }
        return Interaction(batch).to(model.device)

    def _add(self, scores: Tensor, item_id: Tensor, value: Tensor) -> None:
        """Add values ``(b, l)`` to the scores of items."""
        column = self.column.to(scores.device)[item_id]
        value = value.masked_fill(column < 0, 0)
        scores.scatter_add_(1, column.clamp(min=0), value.to(scores.dtype))

    def _best(self, scores, part, rows, own_candidates):
        if self.never is not None:
            scores.masked_fill_(self.never, -torch.inf)
        if self.filter_seen:
            row, item = part.events_of(rows)
            column = self.column[torch.from_numpy(item)]
            kept = column >= 0
            row = torch.from_numpy(row)[kept].to(scores.device)
            scores[row, column[kept].to(scores.device)] = -torch.inf
        if own_candidates is not None:
            scores = scores.masked_fill(
                ~self._allowed(rows, own_candidates, scores.device), -torch.inf
            )
        values, columns = (each.cpu() for each in top_k(scores, self.k))
        ids = self.candidates[columns].masked_fill(values == -torch.inf, 0)
        return ids.numpy(), values.numpy()

    def _most_popular(self, rows, own_candidates):
        if own_candidates is None:
            columns = self.by_popularity[: self.k].expand(len(rows), -1)
            return self.candidates[columns].numpy(), self.popularity[columns].numpy()
        allowed = self._allowed(rows, own_candidates, "cpu")[:, self.by_popularity]
        values, place = allowed.byte().sort(dim=1, descending=True, stable=True)
        columns = self.by_popularity[place[:, : self.k]]
        missing = values[:, : self.k] == 0
        ids = self.candidates[columns].masked_fill(missing, 0)
        return ids.numpy(), self.popularity[columns].masked_fill(missing, -torch.inf).numpy()

    def _allowed(self, rows, own_candidates: Part, device) -> Tensor:
        """Which candidates are among the users' own, ``(b, n)`` bool."""
        row, item = own_candidates.events_of(rows)
        column = self.column[torch.from_numpy(item)]
        kept = column >= 0
        allowed = torch.zeros(len(rows), len(self.candidates), dtype=torch.bool, device=device)
        allowed[torch.from_numpy(row)[kept].to(device), column[kept].to(device)] = True
        return allowed


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
