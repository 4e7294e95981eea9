r"""Item features as tensors, aligned with the items of a data set, and their principal axes."""

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_mm.data.feature_files import (
    FeatureFileError,
    feature_path,
    find_modalities,
    read_feature_info,
    read_feature_rows,
    write_item_features,
)

__all__ = [
    "FeatureFileError",
    "ItemFeatures",
    "feature_path",
    "find_modalities",
    "read_feature_info",
    "read_item_features",
    "reduce_dimension",
    "whiten",
    "write_item_features",
]


class ItemFeatures(NamedTuple):
    """Frozen features of one modality, aligned with the item ids of a data set.

    Attributes:
        values: ``(n_items, F)`` float16 or float32 as on disk; zero where there is none (and for
            the padding item 0).
        present: ``(n_items,)`` bool, whether the item has this modality.
    """

    values: Tensor
    present: Tensor


def read_item_features(path, item_tokens, min_coverage: float = 0.0) -> ItemFeatures:
    """Read one modality for the items of a data set, whatever the order on disk.

    Args:
        path: a feature file.
        item_tokens: ``(n_items,)`` tokens in the order of their ids; the first is the padding.
        min_coverage: the smallest share of the items (padding apart) that must be in the file.

    Raises:
        FeatureFileError: see :func:`~recbole_mm.data.feature_files.read_feature_rows`.
    """
    values, present = read_feature_rows(path, item_tokens, min_coverage)
    return ItemFeatures(torch.from_numpy(values), torch.from_numpy(present))


def whiten(features: ItemFeatures, dimension: int | None = None) -> ItemFeatures:
    r"""Project the present rows on their principal axes, each scaled to unit variance.

    Args:
        features: one modality.
        dimension: how many axes to keep; all that carry variance if ``None``.

    Returns:
        float32 features of width ``min(dimension, rank)``; absent rows stay zero.

    Reference:
        Jianlin Su et al. "Whitening Sentence Representations for Better Semantics and Faster
        Retrieval." arXiv 2103.15316.
    """
    x = features.values[features.present].float()
    _, axes, scale = _principal_axes(x)
    rank = int((scale > scale[0] * 1e-5).sum()) if len(scale) else 0
    keep = min(dimension or rank, rank)
    values = torch.zeros(len(features.values), keep)
    values[features.present] = (x - x.mean(0)) @ (axes[:, :keep] / scale[:keep])
    return ItemFeatures(values, features.present)


def reduce_dimension(features: ItemFeatures, dimension: int | None = None) -> ItemFeatures:
    """Project the present rows on their first ``dimension`` principal axes, scale kept (PCA).

    All axes are kept if ``dimension`` is ``None``.
    """
    x = features.values[features.present].float()
    mean, axes, _ = _principal_axes(x)
    axes = axes[:, :dimension]
    values = torch.zeros(len(features.values), axes.shape[1])
    values[features.present] = (x - mean) @ axes
    return ItemFeatures(values, features.present)


def _principal_axes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.mean(0)
    variance, axes = torch.linalg.eigh(torch.cov(x.T.double()).reshape(x.shape[1], x.shape[1]))
    scale = variance.flip(0).clamp(min=0).sqrt().float()
    return mean, axes.flip(1).float(), scale
