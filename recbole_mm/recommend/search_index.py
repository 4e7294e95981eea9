"""Search for the best items of users by an index (faiss) instead of scoring all of them.

An item has one vector or several: its score is at most the largest of their dot products with the
user. The index finds vectors; the score of the items that they belong to is then computed exactly, so
the order of what was found is that of the model, also where a score is a mix weighted by the user
(MISSRec). With ``exact``, an item whose score is above the last product that was found cannot be
missed.

========================= ================================================
index.faiss               of the vectors, by inner product
index_items.npy           row of the item of each vector, int64
========================= ================================================
"""

from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import faiss
import numpy as np
import torch

from recbole_mm.recommend.onnx_files import RECOMMENDABLE, ServedModel

INDEX, INDEX_ITEMS = "index.faiss", "index_items.npy"
LINKS, CONSTRUCTION_WIDTH, SEARCH_WIDTH = 32, 200, 128
"""Of HNSW: links of a vector, and candidates that are kept while it is built and searched."""
FETCHED = 100
"""Vectors that are fetched for a list of ten."""


class IndexReport(NamedTuple):
    """How well an index finds what scoring all items finds.

    Attributes:
        n_vectors: how many it holds.
        recall: share of the best items that are found.
        milliseconds: of a user, search and scores of what was found.
        exact_milliseconds: of a user, scores of all items.
    """

    n_vectors: int
    recall: float
    milliseconds: float
    exact_milliseconds: float

    def __str__(self) -> str:
        return (
            f"{self.n_vectors:,} vectors, recall@10 {self.recall:.4f}, "
            f"{self.milliseconds:.2f} ms per user; all items: {self.exact_milliseconds:.2f} ms"
        )


@torch.no_grad()
def write_index(folder, model, recommendable: np.ndarray, kind: str) -> None:
    """Write the index of a model's items.

    Args:
        folder: must exist.
        model: of ours, on the CPU, in evaluation.
        recommendable: ``(n_items,)`` bool.
        kind: ``exact`` or ``hnsw``.
    """
    scores = model.scores_with_neighbors(model.all_items())
    rows = recommendable.nonzero()[0]
    vectors = scores.bounds(*scores.tables)[:, torch.from_numpy(rows)]
    width = vectors.shape[-1]
    if kind == "exact":
        index: faiss.Index = faiss.IndexFlatIP(width)
    else:
        graph = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = CONSTRUCTION_WIDTH, SEARCH_WIDTH
        index = graph
    index.add(vectors.reshape(-1, width).float().contiguous().numpy())
    faiss.write_index(index, str(Path(folder, INDEX)))
    np.save(Path(folder, INDEX_ITEMS), np.tile(rows, len(vectors)))


class Search:
    """An index with the files that it belongs to.

    Args:
        folder: of both.
        served: the files.
    """

    def __init__(self, folder, served: ServedModel):
        self.served = served
        self.index = faiss.read_index(str(Path(folder, INDEX)))
        self.items = np.load(Path(folder, INDEX_ITEMS), allow_pickle=False)

    def best(self, user: np.ndarray, k: int, fetched: int = FETCHED) -> np.ndarray:
        """The ``k`` best of the items that are found for a user ``(1, d)``."""
        _, found = self.index.search(user, min(fetched, len(self.items)))
        rows = np.unique(self.items[found[0][found[0] >= 0]])
        score = self.served.score(user, rows)[0]
        return rows[np.argsort(-score, kind="stable")[:k]]

    def measure(self, users: np.ndarray, k: int = 10) -> IndexReport:
        """Compare the search with scoring all items.

        Args:
            users: ``(b, d)``.
            k: length of a list.
        """
        begun = perf_counter()
        exact = [self._exact(user[None], k) for user in users]
        between = perf_counter()
        found = [self.best(user[None], k) for user in users]
        ended = perf_counter()
        shares = [np.isin(e, f).mean() for e, f in zip(exact, found, strict=True)]
        per_user = 1000 / len(users)
        return IndexReport(
            self.index.ntotal,
            float(np.mean(shares)),
            (ended - between) * per_user,
            (between - begun) * per_user,
        )

    def _exact(self, user: np.ndarray, k: int) -> np.ndarray:
        score = self.served.score(user)[0]
        score[~self.served.arrays[RECOMMENDABLE]] = -np.inf
        best = np.argpartition(-score, k - 1)[:k] if k < len(score) else np.arange(len(score))
        return best[np.argsort(-score[best], kind="stable")]
