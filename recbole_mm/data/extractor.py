r"""The embedded feature extractor: texts and pictures to vectors, without weights or download.

Texts are bags of hashed words and character n-grams; pictures are color, layout and gradient
statistics. Both are reduced to a few dimensions by a truncated singular value decomposition of the
given rows. Vectors of different calls are therefore in different spaces: rows to be compared (the
domains of a mixture, a source and its target) must go through the same call. The space of a call
can be stored to embed further rows in it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from recbole_mm.tools.pictures import on_white, read_picture

DIMENSION = 128
SIDE = 64


class Space(NamedTuple):
    """The projection of the rows of one call.

    Attributes:
        columns: columns in use of each counter (words, character n-grams) for texts; mean and
            spread of the statistics, ``(313,)`` each, for pictures.
        weights: inverse document frequency of each column for texts, one array per counter.
        axes: principal axes, ``(dimension, f)``; zero if there were fewer rows.
    """

    columns: list[np.ndarray]
    weights: list[np.ndarray]
    axes: np.ndarray

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays to store the space, with reduced precision."""
        named = {f"columns_{i}": array for i, array in enumerate(self.columns)}
        named |= {f"weights_{i}": array.astype(np.float32) for i, array in enumerate(self.weights)}
        return named | {"axes": self.axes.astype(np.float16)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Space":
        """The space stored by :meth:`to_arrays`.

        Raises:
            ValueError: arrays are missing or do not fit together.
        """
        columns = [arrays[name] for name in sorted(arrays) if name.startswith("columns_")]
        weights = [arrays[name] for name in sorted(arrays) if name.startswith("weights_")]
        space = cls(columns, weights, np.asarray(arrays.get("axes", np.zeros(0)), np.float32))
        n_columns = sum(map(len, weights)) if weights else len(columns[0]) if columns else 0
        if space.axes.ndim != 2 or len(columns) != 2 or space.axes.shape[1] != n_columns:
            raise ValueError("the arrays of a space do not fit together")
        return space

    def embed_texts(self, texts: list[str]) -> np.ndarray:
        """Vectors of texts, ``(n, dimension)`` float32 of length 1; zero without a known word."""
        bags = []
        for counter, columns, weights in zip(_counters(), self.columns, self.weights, strict=True):
            bags.append(_weighted(counter.transform(texts)[:, columns], weights))
        return normalize(np.asarray(hstack(bags, format="csr") @ self.axes.T, dtype=np.float32))

    def embed_statistics(self, statistics: np.ndarray) -> np.ndarray:
        """Vectors of pictures from their statistics ``(n, 313)``."""
        mean, spread = self.columns
        return normalize(((statistics - mean) / spread @ self.axes.T).astype(np.float32))


def fit_texts(texts: list[str], dimension: int = DIMENSION) -> tuple[np.ndarray, Space]:
    """Latent semantic analysis of hashed words, word pairs and character n-grams.

    Args:
        texts: ``n`` texts; one without any word becomes a zero row.
        dimension: width of the vectors; padded with zero columns if ``n`` is smaller.

    Returns:
        ``(n, dimension)`` float32, rows of length 1, and their space.

    Reference:
        Scott Deerwester et al. "Indexing by Latent Semantic Analysis." JASIS 1990.
    """
    bags, columns, weights = [], [], []
    for counter in _counters():
        bag = counter.transform(texts)
        texts_with = np.bincount(bag.indices, minlength=bag.shape[1])
        shared = np.flatnonzero(texts_with >= max(1, min(2, texts_with.max())))
        bag = bag[:, shared]
        texts_with = np.bincount(bag.indices, minlength=len(shared))
        columns.append(shared.astype(np.int32))
        # as TfidfTransformer smooths it
        weights.append(np.log((1 + len(texts)) / (1 + texts_with)) + 1)
        bags.append(_weighted(bag, weights[-1]))
    rows = hstack(bags, format="csr")
    vectors, axes = project(rows, dimension)
    return vectors, Space(columns, weights, axes)


def _counters() -> tuple[HashingVectorizer, HashingVectorizer]:
    """Counters of words and word pairs, and of character n-grams."""
    counts = {"norm": None, "alternate_sign": False, "n_features": 2**16}
    return (
        HashingVectorizer(ngram_range=(1, 2), **counts),
        HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **counts),
    )


def _weighted(bag, weights: np.ndarray):
    """Logarithms of the counts times weights, with rows of length 1."""
    if not len(weights):
        return bag
    bag = bag.copy()
    bag.data = (np.log(bag.data) + 1) * weights[bag.indices]
    return normalize(bag, copy=False)


def fit_statistics(statistics: np.ndarray, dimension: int = DIMENSION) -> tuple[np.ndarray, Space]:
    """Standardize the columns of statistics and decorrelate them.

    Args:
        statistics: :func:`image_statistics` of ``n`` pictures, ``(n, 313)``.
        dimension: see :func:`fit_texts`.

    Returns:
        ``(n, dimension)`` float32, rows of length 1, and their space.
    """
    mean, spread = statistics.mean(0), statistics.std(0)
    spread = np.where(spread > 1e-6, spread, 1)
    vectors, axes = project((statistics - mean) / spread, dimension)
    return vectors, Space([mean, spread], [], axes)


def image_statistics(image) -> np.ndarray:
    """Statistics of one picture, independent of its size: ``(313,)`` float32.

    A 4 x 4 x 4 RGB histogram and a 9-bin histogram of the edge directions (square roots), mean
    colors on a 4 x 4 grid, gray levels on an 8 x 8 grid, and edge directions (8 bins, unsigned) on
    a 4 x 4 grid. Transparent pixels count as white.
    """
    if not isinstance(image, Image.Image):
        return image_statistics(read_picture(image, side=2 * SIDE))
    pixels = (
        np.asarray(on_white(image).resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float32)
        / 255
    )

    levels = np.minimum((pixels * 4).astype(np.int64), 3)
    color = np.bincount(levels.reshape(-1, 3) @ np.array([16, 4, 1]), minlength=64)
    gray = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    down, right = np.gradient(gray)
    strength = np.hypot(down, right)
    angle = np.floor(np.arctan2(down, right) / np.pi * 8).astype(np.int64) % 8
    edges = np.stack([np.where(angle == bin_, strength, 0) for bin_ in range(8)], axis=-1)
    blank = (strength < 0.02).mean()
    return np.concatenate(
        [
            np.sqrt(color / color.sum()),
            np.sqrt(edges.mean((0, 1))),
            [blank],
            _grid_means(pixels, 4).ravel(),
            _grid_means(gray[..., None], 8).ravel(),
            np.sqrt(_grid_means(edges, 4)).ravel(),
        ],
        dtype=np.float32,
    )


def project(rows, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Truncated SVD with a fixed seed, rows scaled to length 1, zero columns up to ``dimension``.

    It runs on one thread, so that the result does not depend on the number of cores.

    Returns:
        vectors ``(n, dimension)`` and axes ``(dimension, f)``, both float32.
    """
    keep = min(dimension, *rows.shape)
    values = np.zeros((rows.shape[0], dimension), dtype=np.float32)
    axes = np.zeros((dimension, rows.shape[1]), dtype=np.float32)
    if keep:
        with threadpool_limits(1), np.errstate(invalid="ignore"):
            decomposition = TruncatedSVD(keep, random_state=0)
            values[:, :keep] = decomposition.fit_transform(rows)
            axes[:keep] = decomposition.components_
    return normalize(values), axes


def _grid_means(values: np.ndarray, cells: int) -> np.ndarray:
    height, width, channels = values.shape
    blocks = values.reshape(cells, height // cells, cells, width // cells, channels)
    return blocks.mean((1, 3))
