"""Vectors of raw texts and pictures, by the same encoder as the model's features."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from recbole_mm.data.feature_files import content_of
from recbole_mm.data.features import ItemFeatures
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.tools.pictures import PictureError

BATCH = 32


class Encoded(NamedTuple):
    """Features of some items, and why some have none.

    Attributes:
        features: one row per item, without a padding item.
        problems: number of each item whose content could not be read, and why.
    """

    features: ItemFeatures
    problems: list[tuple[int, str]]


class EncoderChoice(NamedTuple):
    """Where to find the encoders of a model's features.

    Attributes:
        device: device of the encoders; ``None``: a GPU if there is one.
        folders: folders with the same weights, by modality; other encoders are where they were, or
            on the Hugging Face hub.
    """

    device: object = None
    folders: Mapping[str, str | Path] = MappingProxyType({})


AS_RECORDED = EncoderChoice()


def encode(
    modality: str,
    content: Sequence[str | Path | None],
    catalog: Catalog,
    encoder: EncoderChoice = AS_RECORDED,
) -> Encoded:
    """Encode texts or pictures as the features of the catalog were encoded.

    Args:
        modality: ``text``, ``image``, or another modality that is made from texts or pictures.
        content: texts or paths; ``None`` or empty: the item lacks the modality.
        catalog: catalog whose features they join.
        encoder: location of the encoder.

    Raises:
        CatalogError: the features were made elsewhere, or by an encoder that is not
            available in the same revision.
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
    return _encode(modality, content, info, encoder, catalog.features[modality].values.shape[1])


def _embed(modality: str, content: Sequence, catalog: Catalog) -> Encoded:
    from recbole_mm.data.extractor import Space, image_statistics  # scikit-learn

    arrays = catalog.spaces.get(modality)
    if not arrays:
        raise CatalogError(
            f"{modality} features are by the embedded extractor, whose space the feature file "
            f"lacks: vectors of other items would be in another one. Run recbole-mm extract again "
            f"and train on its features, or give ready vectors"
        )
    try:
        space = Space.from_arrays(arrays)
    except ValueError as error:
        raise CatalogError(f"the space of the {modality} features is damaged: {error}") from error
    is_text = content_of(modality, catalog.info[modality]) == "text"
    rows, values, problems = _read(content, str if is_text else image_statistics)
    if not rows:
        vectors = np.zeros((0, len(space.axes)), dtype=np.float32)
    elif is_text:
        vectors = space.embed_texts(values)
    else:
        vectors = space.embed_statistics(np.stack(values))
    return Encoded(_aligned(rows, vectors, len(content)), problems)


def _encode(
    modality: str, content: Sequence, info: Mapping, choice: EncoderChoice, width: int
) -> Encoded:
    from recbole_mm.prepare.batches import encode_batch, unit_length
    from recbole_mm.prepare.chunks import in_batches

    encoder = _encoder_of(modality, info, choice)
    part = [(row, source) for row, source in enumerate(content) if source]
    kind = content_of(modality, info) or modality
    found = in_batches(part, BATCH, partial(encode_batch, encoder, kind))
    vectors = found.values if found.rows else np.zeros((0, width), np.float16)
    if info.get("normalization") == "l2":
        vectors = unit_length(vectors)
    return Encoded(_aligned(found.rows, vectors, len(content)), found.problems)


def _encoder_of(modality: str, info: Mapping, choice: EncoderChoice):
    """The encoder of the features.

    Raises:
        CatalogError: the encoder is missing or a different one.
        InputError: the encoder cannot be loaded.
    """
    from recbole_mm.prepare.recorded_encoders import NotTheEncoder, open_recorded_encoder

    try:
        return open_recorded_encoder(modality, info, choice.folders.get(modality), choice.device)
    except NotTheEncoder as error:
        raise CatalogError(
            f"{error}: give a folder with the same weights, --encoder={modality}=FOLDER (in Python "
            f"encoders=...), or ready vectors of the new items"
        ) from error


def _read(content: Sequence, read) -> tuple[list[int], list, list[tuple[int, str]]]:
    """Rows and values of what can be read, and the problems of the rest."""
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
