r"""The embedded feature extractor: texts and pictures to vectors, without weights or download.

Texts are bags of hashed words and character n-grams, pictures are color, layout and gradient
statistics; both are brought to a few dimensions by a truncated singular value decomposition over
the rows given. Vectors of different calls therefore live in different spaces: rows that are to be
compared (the domains of a mixture, a source and its target) go through one call together.
"""

import numpy as np
from PIL import Image
from scipy.sparse import hstack
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from recbole_mm.tools.pictures import on_white, read_picture

DIMENSION = 128
SIDE = 64


def embed_texts(texts: list[str], dimension: int = DIMENSION) -> np.ndarray:
    """Latent semantic analysis of hashed words, word pairs and character n-grams.

    Args:
        texts: ``n`` texts; one without any word becomes a zero row.
        dimension: width of the vectors; filled up with zero columns if ``n`` is smaller.

    Returns:
        ``(n, dimension)`` float32, rows of length 1.

    Reference:
        Scott Deerwester et al. "Indexing by Latent Semantic Analysis." JASIS 1990.
    """
    counts = {"norm": None, "alternate_sign": False, "n_features": 2**16}
    words = HashingVectorizer(ngram_range=(1, 2), **counts)
    letters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), **counts)
    bags = []
    for counter in (words, letters):
        bag = counter.transform(texts)
        texts_with = np.bincount(bag.indices, minlength=bag.shape[1])
        shared = np.flatnonzero(texts_with >= min(2, texts_with.max()))
        if texts_with.any():
            bags.append(TfidfTransformer(sublinear_tf=True).fit_transform(bag[:, shared]))
    if not bags:
        return np.zeros((len(texts), dimension), dtype=np.float32)
    return project(hstack(bags, format="csr"), dimension)


def embed_images(images, dimension: int = DIMENSION) -> np.ndarray:
    """Color, layout and gradient statistics of pictures, decorrelated.

    Args:
        images: ``n`` paths or PIL images.
        dimension: width of the vectors; filled up with zero columns if ``n`` is smaller.

    Returns:
        ``(n, dimension)`` float32, rows of length 1.

    Raises:
        PictureError: a picture that cannot be read.
    """
    return project_statistics(np.stack([image_statistics(image) for image in images]), dimension)


def image_statistics(image) -> np.ndarray:
    """Statistics of one picture, independent of its size: ``(313,)`` float32.

    A 4 x 4 x 4 RGB histogram and a 9-bin one of the edge directions (square roots), mean colors on
    a 4 x 4 grid, gray levels on an 8 x 8 grid, and edge directions (8 bins, unsigned) on a 4 x 4
    grid. Transparent pixels count as white.
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


def project_statistics(statistics: np.ndarray, dimension: int = DIMENSION) -> np.ndarray:
    """Standardize the columns of ``(n, f)`` statistics and bring them to ``(n, dimension)``."""
    spread = statistics.std(0)
    centered = (statistics - statistics.mean(0)) / np.where(spread > 1e-6, spread, 1)
    return project(centered, dimension)


def project(rows, dimension: int) -> np.ndarray:
    """Truncated SVD with a fixed seed, rows scaled to length 1, zero columns up to ``dimension``.

    On one thread: the result does not depend on the number of cores.
    """
    keep = min(dimension, *rows.shape)
    values = np.zeros((rows.shape[0], dimension), dtype=np.float32)
    with threadpool_limits(1), np.errstate(invalid="ignore"):
        values[:, :keep] = TruncatedSVD(keep, random_state=0).fit_transform(rows)
    return normalize(values)


def _grid_means(values: np.ndarray, cells: int) -> np.ndarray:
    height, width, channels = values.shape
    blocks = values.reshape(cells, height // cells, cells, width // cells, channels)
    return blocks.mean((1, 3))
