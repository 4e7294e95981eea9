r"""Item features as tensors, aligned with the items of a data set."""

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_mm.data.feature_files import ROWS_PER_CHUNK, read_feature_rows


class ItemFeatures(NamedTuple):
    """Frozen features of one modality, aligned with the item ids of a data set.

    Attributes:
        values: ``(n_items, F)`` float16 or float32 as on disk; zero where there is none (and for
            the padding item 0).
        present: ``(n_items,)`` bool, whether the item has this modality.
    """

    values: Tensor
    present: Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no value of a large table is NaN or infinite."""
    return all(bool(rows.isfinite().all()) for rows in values.split(ROWS_PER_CHUNK))


def read_item_features(path, item_tokens, min_coverage: float = 0.0) -> ItemFeatures:
    """Read one modality for the items of a data set, in any order on disk.

    Args:
        path: a feature file.
        item_tokens: ``(n_items,)`` tokens in the order of their ids; the first is the padding.
        min_coverage: minimum share of the items (without padding) that must be in the file.

    Raises:
        FeatureFileError: see :func:`~recbole_mm.data.feature_files.read_feature_rows`.
    """
    values, present = read_feature_rows(path, item_tokens, min_coverage)
    return ItemFeatures(torch.from_numpy(values), torch.from_numpy(present))
