"""Vectors of raw texts and pictures, by the very encoder that the model's features are from."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recbole_mm.data.features import ItemFeatures
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.tools.pictures import PictureError, read_picture

BATCH = 32
COMMIT = re.compile(r"[0-9a-f]{40}")


class Encoded(NamedTuple):
    """Features of some items, and why some have none.

    Attributes:
        features: one row per item, without a padding item.
        problems: number of an item and why its content could not be read.
    """

    features: ItemFeatures
    problems: list[tuple[int, str]]


def encode(
    modality: str, content: Sequence[str | Path | None], catalog: Catalog, device=None
) -> Encoded:
    """Encode texts or pictures as the features of the catalog were encoded.

    Args:
        modality: ``text`` or ``image``.
        content: texts or paths; ``None`` or empty: the item lacks the modality.
        catalog: whose features they are put beside.
        device: of the encoder; ``None``: a GPU if there is one.

    Raises:
        CatalogError: the features were made elsewhere, or by an encoder that is not here in the
            same revision.
        InputError: the encoder cannot be loaded.
    """
    info = catalog.info.get(modality, {})
    if info.get("encoder") == "embedded":
        return _embed(modality, content, catalog)
    if "pooling" not in info:
        raise CatalogError(
            f"{modality} features are by {info.get('encoder', 'an unknown encoder')!r}, which "
            f"recbole-mm extract did not run: give ready vectors of the new items, as lists in a "
            f"column {modality!r} or as a feature file (--new-vectors {modality}=FILE.npz)"
        )
    return _encode(modality, content, info, device, catalog.features[modality].values.shape[1])


def _embed(modality: str, content: Sequence, catalog: Catalog) -> Encoded:
    from recbole_mm.data.extractor import Space, image_statistics  # scikit-learn

    arrays = catalog.spaces.get(modality)
    if not arrays:
        raise CatalogError(
            f"{modality} features are by the embedded extractor, whose space the feature file does "
            f"not have: vectors of other items would be in another one. Run recbole-mm extract again "
            f"and train on its features, or give ready vectors"
        )
    try:
        space = Space.from_arrays(arrays)
    except ValueError as error:
        raise CatalogError(f"the space of the {modality} features is damaged: {error}") from error
    rows, values, problems = _read(content, str if modality == "text" else image_statistics)
    if not rows:
        vectors = np.zeros((0, len(space.axes)), dtype=np.float32)
    elif modality == "text":
        vectors = space.embed_texts(values)
    else:
        vectors = space.embed_statistics(np.stack(values))
    return Encoded(_aligned(rows, vectors, len(content)), problems)


def _encode(modality: str, content: Sequence, info: Mapping, device, width: int) -> Encoded:
    from recbole_mm.prepare.encoders import Encoder  # transformers

    dtype = getattr(torch, str(info.get("precision", "")).removeprefix("torch."), None)
    revision = str(info.get("revision", ""))
    encoder = Encoder(
        info["encoder"],
        info["pooling"],
        dtype if isinstance(dtype, torch.dtype) else None,
        device,
        info.get("prompt", ""),
        revision if COMMIT.fullmatch(revision) else None,
    )
    encoder.require(modality)
    if encoder.revision != revision:
        raise CatalogError(
            f"{modality} features are by {info['encoder']} in the revision {revision}, but "
            f"here it is {encoder.revision}: give ready vectors of the new items, or that revision"
        )
    rows, values, problems = _read(content, str if modality == "text" else read_picture)
    parts = []
    for start in range(0, len(values), BATCH):
        batch = values[start : start + BATCH]
        parts.append(encoder.texts(batch)[0] if modality == "text" else encoder.images(batch))
    vectors = np.concatenate(parts) if parts else np.zeros((0, width))
    vectors = vectors.astype(np.float16)
    if info.get("normalization") == "l2":
        length = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
        vectors = (vectors / np.maximum(length, 1e-12)).astype(np.float16)
    return Encoded(_aligned(rows, vectors, len(content)), problems)


def _read(content: Sequence, read) -> tuple[list[int], list, list[tuple[int, str]]]:
    """Places and values of what can be read, and what cannot."""
    rows, values, problems = [], [], []
    for row, source in enumerate(content):
        if not source:
            continue
        try:
            values.append(read(source))
            rows.append(row)
        except PictureError as error:
            problems.append((row, str(error)))
    return rows, values, problems


def _aligned(rows: list[int], vectors: np.ndarray, n: int) -> ItemFeatures:
    values = torch.zeros(n, vectors.shape[1], dtype=torch.from_numpy(vectors).dtype)
    present = torch.zeros(n, dtype=torch.bool)
    values[rows] = torch.from_numpy(vectors)
    present[rows] = True
    return ItemFeatures(values, present)
