"""The best candidates of users, from batches of their histories."""

from collections.abc import Callable, Iterable
from copy import copy
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from recbole.data.interaction import Interaction
from torch import Tensor

from recbole_mm.model.layers.screening import Approximation
from recbole_mm.model.layers.top_k import BestSoFar, lowest
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.recommend.histories import Part
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import RunFailed
from recbole_mm.tools.threads import in_threads

BATCH_SIZE = 1024

BLOCKS = {"cpu": (256, 2048)}
"""Users and items whose scores are in memory at once, by the kind of device: 2 MB of float32, about
the size of a core's cache."""
LARGE_BLOCK = (1024, 65_536)
"""The same numbers for other devices."""
SCREENED, SCREENED_PER_K = 4096, 256
"""Numbers of candidates, in total and per item of a list, from which on approximations pay off."""
SCREENED_AT_ONCE = 8192
"""Number of items whose approximations are in memory at once."""


class Ranked(NamedTuple):
    """The best items of some users, best first.

    Attributes:
        item_id: item ids, ``(n_users, k)``; 0 after the end of a list.
        score: scores, ``(n_users, k)`` float32.
        popular: whether a list is that of the most popular items, ``(n_users,)`` bool.
    """

    item_id: np.ndarray
    score: np.ndarray
    popular: np.ndarray


class Ranker:
    """Ranks candidates with a model; users without a known event get the most popular candidates.

    Args:
        model: trained model, on its device; it is switched to evaluation mode.
        catalog: items of the model.
        k: length of a list; with fewer candidates, lists are shorter.
        items: ids of the candidates; ``None``: all.
        exclude: ids that are not candidates; ``None``: none.
        filter_seen: whether to exclude the items of a user's history.
        batch_size: histories per batch of the model.
        request_time: time of the request in unix seconds, for models that read it.

    Raises:
        CatalogError: there are no candidates.
        RunFailed: the model gives NaN or infinite values for a user.
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
        by_popularity = allowed.nonzero().squeeze(1)
        if not len(by_popularity):
            raise CatalogError("no item is left to recommend; allow more items, or exclude fewer")
        self.popularity = catalog.popularity.float()
        order = self.popularity[by_popularity].argsort(descending=True, stable=True)
        self.by_popularity = by_popularity[order]
        self.place = _places(self.by_popularity, len(allowed))
        self.candidates = (allowed & ~model.never_recommended().cpu()).nonzero().squeeze(1)
        self.column = _places(self.candidates, len(allowed))
        self.users_per_block, self.items_per_block = BLOCKS.get(device.type, LARGE_BLOCK)
        self.screen = None
        if len(self.candidates):
            with torch.no_grad():
                self.scores = model.scores_of(self.candidates.to(device))
                if len(self.candidates) >= max(SCREENED, SCREENED_PER_K * k):
                    self.screen = model.screen_of(self.candidates.to(device))

    def rank(self, part: Part, own_candidates: Part | None = None, progress=None) -> Ranked:
        """The ``k`` best candidates of each user.

        Args:
            part: histories of the users.
            own_candidates: candidates of the same users in the same order; ``None``: all
                candidates.
            progress: function that is called with the number of users of every finished batch.
        """
        n_users = len(part.users)
        item_id = np.zeros((n_users, self.k), dtype=np.int64)
        score = np.full((n_users, self.k), -np.inf, dtype=np.float32)
        order = np.argsort(part.lengths, kind="stable")  # rows of a batch: similar lengths
        n_without = int((part.lengths == 0).sum())
        batches = _split(order[n_without:], self.batch_size)
        ranked = self._each(partial(self._rank_batch, part, own_candidates), batches)
        for rows, best in zip(batches, ranked, strict=True):
            item_id[rows], score[rows] = best
            if progress:
                progress(len(rows))
        for rows in _split(order[:n_without], self.users_per_block):
            item_id[rows], score[rows] = self._most_popular(rows, own_candidates)
            if progress:
                progress(len(rows))
        return Ranked(item_id, score, part.lengths == 0)

    def _each(self, function: Callable, batches: list[np.ndarray]) -> Iterable:
        return (in_threads if self.model.device.type == "cpu" else map)(function, batches)

    @torch.inference_mode()
    def _rank_batch(
        self, part: Part, own_candidates: Part | None, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and scores of the best candidates of some users with events."""
        batch = self.batch(part, rows)
        users = self.model.user_vectors(batch, *self.model.embed_histories(batch))
        self._refuse_nan(users)
        repeats = self.model.history_additions(batch)
        found = []
        for block in _split(np.arange(len(rows)), self.users_per_block):
            place = slice(block[0], block[-1] + 1)
            changes = self._changes(part, rows[place], own_candidates)
            if repeats is not None:
                changes.insert(0, self._additions(repeats.column[place], repeats.value[place]))
            found.append(self._best(users[place], changes))
        ids, scores = zip(*found, strict=True)
        return np.concatenate(ids), np.concatenate(scores)

    def _refuse_nan(self, users: Tensor) -> None:
        unusable = int((~users.isfinite()).any(dim=1).sum())
        if unusable:
            users_of = f"{counted(unusable, 'user', 'users')} of {type(self.model).__name__}"
            raise RunFailed(
                f"the vectors of {users_of} are not numbers: check the features for huge "
                f"values, or train again with a lower learning_rate"
            )

    def batch(self, part: Part, rows: np.ndarray) -> Interaction:
        """What the model reads for some users, ``rows`` of a part, with their latest events."""
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

    def _best(self, users: Tensor, changes: list["Cells"]) -> tuple[np.ndarray, np.ndarray]:
        """Ids and scores of the ``k`` best candidates of a block of users ``(b, d)``."""
        found = self._screened(users, changes) or self._searched(users, changes)
        assert found is not None
        values, columns = (each.cpu() for each in found)
        listed = values > -torch.inf
        ids = torch.zeros_like(columns)
        ids[listed] = self.candidates[columns[listed]]
        return ids.numpy(), values.numpy()

    def _searched(self, users: Tensor, changes: list["Cells"]) -> tuple[Tensor, Tensor] | None:
        """Scores and columns of the best candidates."""
        best = BestSoFar(len(users), self.k, users)

        def scores_of(first: int, last: int) -> Tensor:
            return self.scores.block(first, last)(users)

        self._search(best, scores_of, changes, self.items_per_block)
        return best.result()

    def _screened(self, users: Tensor, changes: list["Cells"]) -> tuple[Tensor, Tensor] | None:
        """The same: all candidates by approximations, and then the best of them exactly; ``None`` if
        these cannot be separated from the others."""
        if self.screen is None:
            return None
        approximation = self.screen.read(users)
        rounded = [cells.rounded(approximation) for cells in changes]
        known = [cells for cells in rounded if cells is not None]
        if len(known) < len(changes):
            return None
        best = BestSoFar(len(users), self.k, approximation.slack, approximation.slack)
        self._search(best, approximation.block, known, SCREENED_AT_ONCE)

        def exact(row: Tensor, column: Tensor) -> Tensor:
            values = self.scores.of_pairs(users, row, column)
            for cells in changes:
                cells.add_to_pairs(values, row, column, len(self.candidates))
            return values

        return best.result(exact)

    def _search(
        self, best: BestSoFar, scores_of: Callable, changes: list["Cells"], n_items: int
    ) -> None:
        """Pass the scores of all candidates to ``best``, a block of ``n_items`` at a time."""
        for first in range(0, len(self.candidates), n_items):
            last = min(first + n_items, len(self.candidates))
            scores = scores_of(first, last)
            for cells in changes:
                cells.change(scores, first)
            best.add(scores, first)
            if best.is_crowded:
                break

    def _additions(self, item_id: Tensor, value: Tensor) -> "Cells":
        """Values ``(b, l)`` that are added to the scores of items ``(b, l)``."""
        row = torch.arange(len(item_id)).unsqueeze(1).expand_as(item_id)
        column = self.column[item_id.cpu()]
        kept = column >= 0
        key, place = (row * len(self.column) + column)[kept].unique(return_inverse=True)
        kept, place = kept.to(value.device), place.to(value.device)
        total = value.new_zeros(len(key)).index_add_(0, place, value[kept])
        row, column = key // len(self.column), key % len(self.column)
        return Cells(row, column, total, "add", value.device)

    def _changes(self, part: Part, rows: np.ndarray, own_candidates: Part | None) -> list["Cells"]:
        """Changes of the scores that exclude what is not recommended to some users."""
        device, changes = self.model.device, []
        if self.filter_seen:
            changes.append(Cells(*_cells(part, rows, self.column), None, "exclude", device))
        if own_candidates is not None:
            cells = _cells(own_candidates, rows, self.column)
            changes.append(Cells(*cells, None, "keep", device))
        return changes

    def _most_popular(
        self, rows: np.ndarray, own_candidates: Part | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the candidates with the most interactions, and the numbers of these."""
        ids = np.zeros((len(rows), self.k), dtype=np.int64)
        counts = np.full((len(rows), self.k), -np.inf, dtype=np.float32)
        if own_candidates is None:
            best = self.by_popularity[: self.k]
            ids[:, : len(best)], counts[:, : len(best)] = best, self.popularity[best]
            return ids, counts
        row, place = torch.stack(_cells(own_candidates, rows, self.place)).unique(dim=1).numpy()
        rank = np.arange(len(row)) - np.searchsorted(row, row)
        listed = rank < self.k
        best = self.by_popularity[torch.from_numpy(place[listed])]
        ids[row[listed], rank[listed]] = best
        counts[row[listed], rank[listed]] = self.popularity[best]
        return ids, counts


def _places(item_id: Tensor, n_items: int) -> Tensor:
    """The place of each item in a list of ids, ``(n_items,)``; -1: not in the list."""
    places = torch.full((n_items,), -1)
    places[item_id] = torch.arange(len(item_id))
    return places


def _cells(part: Part, rows: np.ndarray, places: Tensor) -> tuple[Tensor, Tensor]:
    """Row and place of each event of some users whose item has a place."""
    row, item = part.events_of(rows)
    place = places[torch.from_numpy(item)]
    kept = place >= 0
    return torch.from_numpy(row)[kept], place[kept]


class Cells:
    """Some scores of a block of users, in the order of their columns, and what happens to them.
    Cells to which something is added are distinct.

    Args:
        row: rows of the users, ``(n,)``.
        column: columns of the candidates, ``(n,)``.
        value: value added to each score, ``(n,)``, for ``add``.
        effect: ``add``; ``exclude``: they become the lowest possible; ``keep``: all others do.
        device: device of the scores.
    """

    def __init__(self, row: Tensor, column: Tensor, value: Tensor | None, effect: str, device):
        order = column.argsort(stable=True)
        self.sorted = column[order].numpy()
        self.row, self.column = row[order].to(device), column[order].to(device)
        self.value = None if value is None else value[order.to(value.device)]
        self.effect = effect

    def rounded(self, approximation: Approximation) -> "Cells | None":
        """The same for approximate scores; ``None`` if these cannot hold what is added."""
        if self.value is None:
            return self
        changed = copy(self)
        changed.value = approximation.in_units(self.row, self.value)
        return None if changed.value is None else changed

    def add_to_pairs(self, values: Tensor, row: Tensor, column: Tensor, n_columns: int) -> None:
        """Add the values of these cells to the scores ``(n,)`` of some rows and columns."""
        if self.value is None or not len(self.value):
            return
        key, order = (self.row * n_columns + self.column).sort()
        asked = row * n_columns + column
        place = torch.searchsorted(key, asked).clamp(max=len(key) - 1)
        values += torch.where(key[place] == asked, self.value[order][place], 0)

    def change(self, scores: Tensor, first: int) -> None:
        """Change the scores ``(b, n)`` of the candidates from ``first`` on."""
        cells = slice(*np.searchsorted(self.sorted, (first, first + scores.shape[1])))
        where = self.row[cells], self.column[cells] - first
        if self.effect == "add":
            assert self.value is not None
            scores.index_put_(where, self.value[cells].to(scores.dtype), accumulate=True)
        elif self.effect == "exclude":
            scores[where] = lowest(scores.dtype)
        else:
            others = torch.ones_like(scores, dtype=torch.bool)
            others[where] = False
            scores.masked_fill_(others, lowest(scores.dtype))


def _split(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
