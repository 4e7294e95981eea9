"""Search for the best items of users by an index (faiss) instead of scoring all of them.

An item has one vector or several: its score is at most the largest of their dot products with the
user. The index finds vectors. The scores of their items, and of those of the history, to which a
model may add something (``added`` of the encoder), are then computed exactly, so the order of the
found items is that of the model, even if a score is a mix weighted by the user (MISSRec). With
``exact``, an item whose score is above the last product that was found cannot be missed.

========================= ================================================
index.faiss               index of the vectors, by inner product; they may have one more coordinate,
                          which gives all of them the same length and is 0 for a user
index_items.npy           row of the item of each vector, int64
========================= ================================================
"""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import faiss
import numpy as np
import torch

from recbole_mm.recommend.onnx_files import RECOMMENDABLE, ServedModel
from recbole_mm.tools.counts import counted

INDEX, INDEX_ITEMS = "index.faiss", "index_items.npy"
LINKS, CONSTRUCTION_WIDTH, SEARCH_WIDTH = 32, 200, 128
"""HNSW: links of a vector, and candidates that are kept while the graph is built and searched."""
ENOUGH = 0.99
"""Recall from which on a graph is not built again in another way."""
FETCHED = 100
"""Number of vectors that are fetched for a list of ten."""


class IndexReport(NamedTuple):
    """How well an index finds what scoring all items finds.

    Attributes:
        n_vectors: number of vectors in the index.
        recall: share of the best items that are found.
        milliseconds: time per user, for the search and the scores of what was found.
        exact_milliseconds: time per user, for the scores of all items.
    """

    n_vectors: int
    recall: float
    milliseconds: float
    exact_milliseconds: float

    def __str__(self) -> str:
        return (
            f"{counted(self.n_vectors, 'vector', 'vectors')}, recall@10 {self.recall:.4f}, "
            f"{self.milliseconds:.2f} ms per user; all items: {self.exact_milliseconds:.2f} ms"
        )


class History(NamedTuple):
    """Items of a history and what the model adds to their scores.

    Attributes:
        rows: rows of the items, ``(L,)``; 0 in the padding.
        added: value added to the score of each item, ``(L,)``.
    """

    rows: np.ndarray
    added: np.ndarray


def write_measured_index(
    folder,
    model,
    served: ServedModel,
    users: np.ndarray,
    kind: str,
    k: int = 10,
    histories: Sequence[History] | None = None,
) -> IndexReport:
    """Write the index of a model's items and compare it with scoring all of them.

    An HNSW graph is built from the vectors as they are and, if that does not find enough, from
    vectors of the same length (:func:`of_one_length`); the better one stays. By inner product, a
    graph of vectors with nearly the same length leaves many without a link to them; for vectors
    with many lengths it is the better one.

    Args:
        folder: existing folder.
        model: model of this package, on the CPU, in evaluation mode.
        served: files of the model.
        users: vectors of the users whose lists are compared, ``(b, d)``.
        kind: ``exact`` or ``hnsw``.
        k: length of a list.
        histories: histories of the users, for a model that adds something to their items.
    """
    recommendable = served.arrays[RECOMMENDABLE]
    reports: dict[bool, IndexReport] = {}
    for one_length in (False,) if kind == "exact" else (False, True):
        write_index(folder, model, recommendable, kind, one_length)
        reports[one_length] = Search(folder, served).measure(users, k, histories)
        if reports[one_length].recall >= ENOUGH:
            return reports[one_length]
    better = max(reports, key=lambda one_length: reports[one_length].recall)
    if better != one_length:
        write_index(folder, model, recommendable, kind, better)
    return reports[better]


@torch.no_grad()
def write_index(folder, model, recommendable: np.ndarray, kind: str, one_length: bool) -> None:
    """Write the index of a model's items.

    Args:
        folder: existing folder.
        model: model of this package, on the CPU, in evaluation mode.
        recommendable: whether an item may be recommended, ``(n_items,)`` bool.
        kind: ``exact`` or ``hnsw``.
        one_length: whether to give all vectors the same length.
    """
    scores = model.scores_with_neighbors(model.all_items())
    rows = recommendable.nonzero()[0]
    bounds = scores.bounds(*scores.tables)[:, torch.from_numpy(rows)].float()
    vectors = bounds.reshape(-1, bounds.shape[-1]).contiguous().numpy()
    if one_length:
        vectors = of_one_length(vectors)
    if kind == "exact":
        index: faiss.Index = faiss.IndexFlatIP(vectors.shape[1])
    else:
        graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = CONSTRUCTION_WIDTH, SEARCH_WIDTH
        index = graph
    index.add(vectors)
    faiss.write_index(index, str(Path(folder, INDEX)))
    np.save(Path(folder, INDEX_ITEMS), np.tile(rows, len(bounds)))


def of_one_length(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(n, d)`` with one more coordinate, ``(n, d + 1)``, that have the same length.

    Products with users, whose additional coordinate is 0, do not change.

    Reference:
        Yoram Bachrach et al. "Speeding up the Xbox recommender system using a Euclidean
        transformation for inner-product spaces." RecSys 2014.
    """
    squares = np.square(vectors, dtype=np.float64).sum(axis=1)
    rest = np.sqrt(squares.max(initial=0) - squares)
    return np.concatenate([vectors, rest[:, None].astype(vectors.dtype)], axis=1)


NO_HISTORY = History(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


class Search:
    """An index with the files that it belongs to.

    Args:
        folder: folder of both.
        served: files of the model.
    """

    def __init__(self, folder, served: ServedModel):
        self.served = served
        self.index = faiss.read_index(str(Path(folder, INDEX)))
        self.items = np.load(Path(folder, INDEX_ITEMS), allow_pickle=False)

    def best(
        self,
        user: np.ndarray,
        k: int,
        history: History = NO_HISTORY,
        fetched: int = FETCHED,
    ) -> np.ndarray:
        """The ``k`` best of the items that are found for a user, and of the user's history.

        Args:
            user: vector of the user, ``(1, d)``.
            k: number of items.
            history: items to whose scores something is added.
            fetched: number of vectors that are fetched.
        """
        query = np.pad(user, ((0, 0), (0, self.index.d - user.shape[1])))
        _, found = self.index.search(query, min(fetched, len(self.items)))
        history = self._recommendable(history)
        rows = np.unique(np.r_[self.items[found[0][found[0] >= 0]], history.rows])
        score = self.served.score(user, rows)[0]
        np.add.at(score, np.searchsorted(rows, history.rows), history.added)
        return rows[np.argsort(-score, kind="stable")[:k]]

    def measure(
        self, users: np.ndarray, k: int = 10, histories: Sequence[History] | None = None
    ) -> IndexReport:
        """Compare the search with scoring all items.

        Args:
            users: vectors of the users, ``(b, d)``.
            k: length of a list.
            histories: histories of the users, see :meth:`best`.
        """
        asked = list(zip(users[:, None], histories or [NO_HISTORY] * len(users), strict=True))
        begun = perf_counter()
        exact = [self._exact(user, k, history) for user, history in asked]
        between = perf_counter()
        found = [self.best(user, k, history) for user, history in asked]
        ended = perf_counter()
        shares = [np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]
        per_user = 1000 / len(users)
        return IndexReport(
            self.index.ntotal,
            float(np.mean(shares)),
            (ended - between) * per_user,
            (between - begun) * per_user,
        )

    def _recommendable(self, history: History) -> History:
        kept = self.served.arrays[RECOMMENDABLE][history.rows]
        return History(*(part[kept] for part in history))

    def _exact(self, user: np.ndarray, k: int, history: History) -> np.ndarray:
        score = self.served.score(user)[0]
        np.add.at(score, history.rows, history.added)
        score[~self.served.arrays[RECOMMENDABLE]] = -np.inf
        best = np.argpartition(-score, k - 1)[:k] if k < len(score) else np.arange(len(score))
        return best[np.argsort(-score[best], kind="stable")]
