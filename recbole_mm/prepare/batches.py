"""Encoding of one batch of texts or pictures, the same for old and new items."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recbole_mm.prepare.chunks import Encoded
from recbole_mm.tools.pictures import PictureError


def encode_batch(encoder, modality: str, batch: list[tuple]) -> Encoded:
    """Encode ``(row, text or path)`` pairs as float16 vectors.

    Args:
        encoder: a :class:`~recbole_mm.prepare.encoders.Encoder`.
        modality: ``text`` or ``image``; a picture that cannot be read is reported as a problem.
        batch: the pairs.
    """
    if modality == "text":
        vectors, cut = encoder.texts([text for _, text in batch])
        return Encoded([row for row, _ in batch], vectors.astype(np.float16), [], cut)
    rows, pictures, problems = read_each(batch, encoder.read_picture)
    vectors = encoder.images(pictures) if pictures else np.zeros((0, 0))
    return Encoded(rows, vectors.astype(np.float16), problems)


def unit_length(values: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, with their dtype; zero rows stay zero."""
    length = np.linalg.norm(values.astype(np.float32), axis=1, keepdims=True)
    return (values / np.maximum(length, 1e-12)).astype(values.dtype)


def read_each(batch: list[tuple], read) -> tuple[list[int], list, list[tuple[int, str]]]:
    """Read pictures in a few threads.

    Returns:
        rows and values of the readable pictures; rows of the others, with the reason.
    """

    def attempt(path):
        try:
            return read(path), None
        except PictureError as error:
            return None, str(error)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, [path for _, path in batch]))
    outcomes = [(row, value, why) for (row, _), (value, why) in zip(batch, results, strict=True)]
    rows = [row for row, value, _ in outcomes if value is not None]
    values = [value for _, value, _ in outcomes if value is not None]
    return rows, values, [(row, why) for row, _, why in outcomes if why]
