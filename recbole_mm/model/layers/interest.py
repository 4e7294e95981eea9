r"""Interests: clusters of item embeddings, and the interests of a history.

A clustering is any callable ``(vectors, n_clusters, init) -> Clustering`` without gradient:
:func:`kmeans`, :func:`faiss_kmeans`, :func:`dpc_knn`. Symbols: ``n`` vectors, ``k`` clusters,
``d`` hidden size, ``M`` modalities, ``V`` items with the padding item 0.
"""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

DISTANCES_PER_BLOCK = 16_000_000
REPRODUCIBLE_THREADS = 2


class Clustering(NamedTuple):
    """Attributes: ``centroids`` ``(k, d)``; ``assignment`` ``(n,)`` int64 in ``[0, k)``."""

    centroids: Tensor
    assignment: Tensor


def kmeans(
    vectors: Tensor,
    n_clusters: int,
    init: Tensor | None = None,
    max_iter: int = 10,
    seed: int = 0,
) -> Clustering:
    """Lloyd's k-means by scikit-learn, on the CPU.

    Args:
        vectors: ``(n, d)``, finite.
        n_clusters: ``1 <= k <= n``.
        init: initial centroids ``(k, d)``; by default ``k`` vectors are drawn with ``seed``
            (k-means++ would take ``k`` passes over the data).
        max_iter: maximum number of passes; fewer if no vector changes its cluster.
        seed: seed of this draw.

    Returns:
        Centroids in the dtype and on the device of ``vectors``; each vector is assigned to the
        nearest centroid. Empty clusters are filled with distant vectors as long as there are
        distinct ones.

    Raises:
        ValueError: ``n_clusters`` is out of range, or vectors are not finite.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    _check(vectors, n_clusters)
    start = "random" if init is None else init.detach().cpu().numpy()
    lloyd = KMeans(n_clusters, init=start, n_init=1, max_iter=max_iter, tol=0, random_state=seed)
    # more threads would add their sums in the order in which they finish, which varies by run
    with threadpool_limits(REPRODUCIBLE_THREADS, "openmp"), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than clusters
        lloyd.fit(vectors.detach().cpu().numpy())
    centroids = torch.from_numpy(lloyd.cluster_centers_).to(vectors)
    return Clustering(centroids, torch.from_numpy(lloyd.labels_).to(vectors.device).long())


def faiss_kmeans(
    vectors: Tensor,
    n_clusters: int,
    init: Tensor | None = None,
    max_iter: int = 10,
    seed: int = 0,
) -> Clustering:
    """Lloyd's k-means by faiss, for a million vectors or more; same arguments as :func:`kmeans`.

    Raises:
        ImportError: faiss is not installed.
        ValueError: ``n_clusters`` is out of range, or vectors are not finite.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            "interest_clustering: faiss needs faiss: 'pip install faiss-cpu', "
            "or choose interest_clustering: kmeans."
        ) from error

    _check(vectors, n_clusters)
    data = vectors.detach().float().cpu().numpy()
    lloyd = faiss.Kmeans(
        data.shape[1],
        n_clusters,
        niter=max_iter,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(data),
    )
    lloyd.train(data, init_centroids=None if init is None else init.float().cpu().numpy())
    centroids = torch.from_numpy(lloyd.centroids).to(vectors)
    return Clustering(centroids, assign(vectors, centroids))


def dpc_knn(
    vectors: Tensor,
    n_clusters: int,
    init: Tensor | None = None,  # noqa: ARG001  as in every clustering
    n_neighbors: int = 5,
    weight: Tensor | None = None,
) -> Clustering:
    r"""Density-peak clustering: centers are dense and far from denser vectors.

    With distances :math:`d_{ij} = \lVert x_i - x_j \rVert / \sqrt{d}`, the density of a vector is
    :math:`\rho_i = \exp(-\mathrm{mean}_{j \in kNN(i)} d_{ij}^2)` (itself included),
    :math:`\delta_i` is its distance to the nearest vector of larger density (the largest of all
    distances if there is none), and the centers are the ``k`` largest :math:`\rho_i \delta_i`.

    Args:
        vectors: ``(n, d)``, finite.
        n_clusters: ``1 <= k <= n``.
        init: not used; this method does not start from earlier clusters.
        n_neighbors: number of vectors that a density is computed from, at most ``n``.
        weight: weight of each vector in its centroid ``(n,)``, 1 by default.

    Returns:
        Weighted means :math:`\sum w x / (\sum w + 10^{-4})`; vectors belong to the nearest center.

    Raises:
        ValueError: ``n_clusters`` is out of range, or vectors are not finite.

    Note:
        ``O(n^2 d)`` time, ``O(n)`` memory plus one block of distances. Vectors of equal density do
        not exclude each other: two equal vectors may both be centers.

    Reference:
        Du et al. "Study on density peaks clustering based on k-nearest neighbors and principal
        component analysis." Knowledge-Based Systems 99, 2016.
    """
    _check(vectors, n_clusters)
    n, d = vectors.shape
    scale = d**-0.5
    density = vectors.new_empty(n)
    largest = vectors.new_zeros(())
    for rows in torch.arange(n, device=vectors.device).split(_rows_per_block(n)):
        distance = torch.cdist(vectors[rows], vectors).mul_(scale)
        largest = torch.maximum(largest, distance.max())
        nearest = distance.topk(min(n_neighbors, n), largest=False).values
        density[rows] = (-nearest.square().mean(dim=1)).exp()
    to_denser = vectors.new_empty(n)
    for rows in torch.arange(n, device=vectors.device).split(_rows_per_block(n)):
        distance = torch.cdist(vectors[rows], vectors).mul_(scale)
        denser = density > density[rows].unsqueeze(1)
        to_denser[rows] = torch.where(denser, distance, largest).min(dim=1).values

    centers = (density * to_denser).topk(n_clusters).indices
    assignment = assign(vectors, vectors[centers])
    assignment[centers] = torch.arange(n_clusters, device=vectors.device)
    weight = torch.ones_like(density) if weight is None else weight.to(vectors)
    total = vectors.new_zeros(n_clusters).index_add_(0, assignment, weight)
    summed = vectors.new_zeros(n_clusters, d)
    summed.index_add_(0, assignment, vectors.detach() * weight.unsqueeze(1))
    return Clustering(summed / (total + 1e-4).unsqueeze(1), assignment)


def assign(vectors: Tensor, centroids: Tensor) -> Tensor:
    """Index of the nearest centroid of each vector ``(n,)``, computed block by block."""
    half = centroids.square().sum(dim=1) / 2
    blocks = vectors.detach().split(_rows_per_block(len(centroids)))
    halves = (torch.addmm(half, block, centroids.T, alpha=-1) for block in blocks)
    return torch.cat([distances.argmin(dim=1) for distances in halves])


def _rows_per_block(columns: int) -> int:
    return max(1, DISTANCES_PER_BLOCK // columns)


def cluster_means(vectors: Tensor, assignment: Tensor, empty: Tensor) -> Tensor:
    """Mean of the vectors of each cluster ``(k, d)``; for an empty cluster, its row of
    ``empty``."""
    count = torch.bincount(assignment, minlength=len(empty)).to(vectors.dtype)
    total = torch.zeros_like(empty).index_add_(0, assignment, vectors.detach())
    return torch.where(count.unsqueeze(1) > 0, total / count.clamp(min=1).unsqueeze(1), empty)


def _check(vectors: Tensor, n_clusters: int) -> None:
    if not 1 <= n_clusters <= len(vectors):
        raise ValueError(
            f"{n_clusters} interests cannot be made of {len(vectors)} item vectors: "
            f"interest_ratio must be in (0, 1]."
        )
    if not vectors.isfinite().all():
        raise ValueError(
            f"{int((~vectors.isfinite()).any(dim=1).sum())} of {len(vectors)} item embeddings are "
            f"not finite, so they cannot be clustered: training has diverged. Lower learning_rate."
        )


class Interests(nn.Module):
    """The interest of each item, one table per modality, and the embeddings of the interests.

    Interest 0 means none, for the padding item and missing modalities. Tables and embeddings are
    buffers: they are part of the checkpoint.

    Args:
        present: ``(M, V)`` bool, whether an item has a modality.
        n_interests: ``k``, ``1 <= k <= present.sum()``.
        hidden_size: ``d``.

    Raises:
        ValueError: ``n_interests`` is out of range.
    """

    def __init__(self, present: Tensor, n_interests: int, hidden_size: int):
        super().__init__()
        n_vectors = int(present.sum())
        if not 1 <= n_interests <= n_vectors:
            raise ValueError(
                f"{n_interests} interests cannot be made of {n_vectors} item vectors "
                f"({len(present)} modalities of {present.shape[1] - 1} items): "
                f"interest_ratio must be in (0, 1]."
            )
        self.register_buffer("present", present, persistent=False)
        self.register_buffer("lookup", torch.zeros_like(present, dtype=torch.long))
        self.register_buffer("embeddings", torch.zeros(n_interests + 1, hidden_size))
        self._filled = False

    @property
    def filled(self) -> bool:
        """Whether the tables contain a clustering, computed here or loaded."""
        self._filled = self._filled or bool(self.lookup.any())
        return self._filled

    @torch.no_grad()
    def update(self, vectors: Iterable[Tensor], clustering: Callable) -> None:
        """Cluster again, starting from the current means of the last clusters.

        Args:
            vectors: item embeddings of each modality, ``(V, d)``; those of missing modalities are not
                used.
            clustering: ``(vectors, n_clusters, init) -> Clustering``.
        """
        taken = self._taken(vectors)
        init = None
        if self.filled:
            last = self.lookup[self.present] - 1
            init = cluster_means(taken, last, empty=self.embeddings[1:].to(taken.dtype))
        centroids, assignment = clustering(taken, len(self.embeddings) - 1, init)
        self.embeddings[1:] = centroids
        self.lookup[self.present] = assignment + 1

    def _taken(self, vectors: Iterable[Tensor]) -> Tensor:
        """The vectors to cluster, one modality after another; in addition, only one modality at a
        time is in memory."""
        taken, first = self.embeddings.new_empty(0), 0
        for rows, present in zip(vectors, self.present, strict=True):
            if first == 0:
                taken = rows.new_empty(int(self.present.sum()), rows.shape[1])
            last = first + int(present.sum())
            taken[first:last] = rows[present]
            first = last
        return taken

    def keep_modalities(self, kept: Tensor) -> None:
        """Remove the vectors of the other modalities.

        Args:
            kept: ``(M,)`` bool.
        """
        self.present = self.present & kept.unsqueeze(1)
        self.lookup = self.lookup * kept.unsqueeze(1)

    def permute_items(self, source: Tensor) -> None:
        """Give every item the vectors of another one.

        Args:
            source: item whose vectors each item gets, ``(V,)`` int64.
        """
        self.present, self.lookup = self.present[:, source], self.lookup[:, source]

    @torch.no_grad()
    def append(self, vectors: Tensor, present: Tensor) -> None:
        """Add items, which get the interest nearest to their vector; the interests do not change.

        Args:
            vectors: ``(M, n, d)``.
            present: ``(M, n)`` bool; absent modalities get no interest.
        """
        lookup = torch.zeros_like(present, dtype=torch.long)
        if self.filled:
            centroids = self.embeddings[1:].to(vectors.dtype)
            lookup[present] = assign(vectors[present], centroids) + 1
        self.lookup = torch.cat([self.lookup, lookup], dim=1)
        self.present = torch.cat([self.present, present], dim=1)

    def of_items(self, *item_seqs: Tensor) -> Tensor:
        """Interests of items, one sequence ``(b, l)`` per modality: ``(b, M l)``, 0 for none."""
        pairs = zip(self.lookup, item_seqs, strict=True)
        return torch.cat([table[items] for table, items in pairs], dim=1)


def unique_rows(ids: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """The distinct positive ids of each row, sorted.

    Args:
        ids: ``(b, s)`` int64, ``>= 0``; 0 means none.
        width: ``w``, at least the largest count; by default that count, or 1.

    Returns:
        Ids ``(b, w)``, right-padded with 0; counts ``(b,)``.
    """
    ids = ids.sort(dim=1).values
    first = ids > 0
    first[:, 1:] &= ids[:, 1:] != ids[:, :-1]
    count = first.sum(dim=1)
    width = max(1, int(count.max())) if width is None else width
    # duplicates go to a spare column, which is cut off afterwards
    column = (first.cumsum(dim=1) - 1).masked_fill(~first, width)
    unique = ids.new_zeros(ids.shape[0], width + 1).scatter_(1, column, ids)
    return unique[:, :width], count


def first_occurrences(ids: Tensor, event: Tensor) -> Tensor:
    """Keep each positive id of a row where it first occurs, by event and then by column; 0
    elsewhere.

    Args:
        ids: ``(b, s)`` int64, ``>= 0``; 0 means none.
        event: event of each column, ``(s,)``.
    """
    place = event * len(event) + torch.arange(len(event), device=event.device)
    before = place < place.unsqueeze(1)
    repeated = ((ids.unsqueeze(1) == ids.unsqueeze(2)) & before).any(dim=2)
    return ids.masked_fill(repeated, 0)


def interest_regularizer(
    summed: Tensor, count: Tensor, width: Tensor, padding: Sequence[Tensor] = ()
) -> Tensor:
    r"""Squared norm of each row's weighted sum over its interests and, as released, its padding.

    :math:`R = \frac1d \sum_r \lVert \sum_{j \le W} w_r m_{rj} \rVert^2` with the share of interests
    :math:`w_r = c_r / W`, over memories that were padded from :math:`c_r` to the width :math:`W`
    of the batch. Padded positions differ by dropout only, so all are computed from two independent
    ones: the same value without dropout, the same expectation with it.

    Args:
        summed: sum of the memory over the interests of each row, ``(b, d)``.
        count: ``(b,)``, interests of each row.
        width: 0-d, the padded width.
        padding: memory at two padded positions, ``(b, d)`` each; empty: padding is ignored.

    Returns:
        0-d.

    Note:
        The paper calls it an orthogonality loss; in fact it penalizes long histories of many
        interests, regardless of their directions. A padded position whose attention weights are
        all dropped is a row of zeros as long as the encoder's biases are zero, and their first
        gradients are 1e13: with padding, Adam then no longer moves these biases.
    """
    count = count.to(summed.dtype).unsqueeze(1)
    squared = summed.square()
    if padding:
        first, second = padding
        n_padded = width.to(summed.dtype) - count
        squared = (
            squared
            + n_padded * summed * (first + second)
            + n_padded * (first.square() + second.square()) / 2
            + n_padded * (n_padded - 1) * first * second
        )
    return ((count / width).square() * squared).sum() / summed.shape[-1]
