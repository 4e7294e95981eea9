"""Ready vectors of new items, from a feature file or from a column of a table."""

import numpy as np
import polars as pl
import torch

from recbole_mm.data.feature_files import ROWS_PER_CHUNK, describe_features, read_feature_rows
from recbole_mm.data.features import ItemFeatures, all_finite
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.transfer.feature_match import match_features

LENGTH_TOLERANCE = 0.02
"""Tolerance for vectors that should have length 1; the error of float16 is far smaller."""
VECTOR = r"^\[\s*[-+]?\.?\d[-+.\deE,\s]*\]$"
"""Pattern of a cell that is written like a list of numbers."""
SHOWN_TEXT = 40
"""Number of characters of a cell that a message shows."""


def vectors_of_table(modality: str, new: pl.DataFrame, catalog: Catalog) -> ItemFeatures | None:
    """The vectors of a column that is named like a modality, one row per item.

    Args:
        modality: name of the modality.
        new: items, with their external ids as ``item``.
        catalog: catalog whose features they join.

    Returns:
        the features; ``None`` if the table has no such column, or one with other content.

    Raises:
        CatalogError: vectors have another width or length, or NaN, or are mixed with other content.
    """
    column = _lists(modality, new)
    return None if column is None else _of_lists(modality, column, catalog)


def is_vector_column(modality: str, new: pl.DataFrame) -> bool:
    """Whether a table of items has vectors of a modality."""
    return _lists(modality, new) is not None


def _lists(modality: str, new: pl.DataFrame) -> pl.Series | None:
    """The vectors of a column of lists, or of cells that are written like lists of numbers; ``None``
    if it has none."""
    if modality not in new.columns:
        return None
    column = new[modality]
    if isinstance(column.dtype, (pl.List, pl.Array)):
        return column
    if column.dtype != pl.String:
        return None
    cells = column.str.strip_chars()
    given = cells.is_not_null() & (cells != "")
    is_vector = cells.str.contains(VECTOR).fill_null(False)
    if not is_vector.any():
        return None
    other = (given & ~is_vector).arg_true()
    if len(other):
        raise CatalogError(
            f"column {modality!r} has vectors, e.g. of item {new['item'][is_vector.arg_true()[0]]!r}, "
            f"and other content: item {new['item'][other[0]]!r} has "
            f"{column[other[0]][:SHOWN_TEXT]!r}; write every vector like [0.1, 0.2]"
        )
    return cells.set(~given, None).str.json_decode(pl.List(pl.Float32))


def vectors_of_file(modality: str, tokens: pl.Series, catalog: Catalog, file) -> ItemFeatures:
    """The vectors of a feature file, one row per item.

    Args:
        modality: name of the modality.
        tokens: external ids of the items; the file may lack some.
        catalog: catalog whose features they join.
        file: path of the file.

    Raises:
        CatalogError: vectors have another encoder, revision, space, width or length, or NaN.
        FeatureFileError: the file cannot be read.
    """
    mine, theirs = catalog.info.get(modality, {}), describe_features(file)
    different = match_features({modality: mine}, {modality: theirs}, [modality]).different
    revisions = mine.get("revision"), theirs.get("revision")
    if not different and all(revisions) and revisions[0] != revisions[1]:
        different = {
            modality: f"revision {revisions[0]!r} in the checkpoint, {revisions[1]!r} here"
        }
    if different:
        raise CatalogError(
            f"{file}: other {modality} vectors than the model was trained with: {different[modality]}; "
            f"extract them in the same way, or give the texts or pictures (--new-items)"
        )
    values, present = read_feature_rows(file, ["[PAD]", *tokens])
    features = ItemFeatures(torch.from_numpy(values[1:]), torch.from_numpy(present[1:]))
    return _checked(modality, features, catalog, str(file))


def _of_lists(modality: str, column: pl.Series, catalog: Catalog) -> ItemFeatures:
    width = catalog.features[modality].values.shape[1]
    present = column.is_not_null()
    lists = column.filter(present).cast(pl.List(pl.Float32), strict=False)
    widths = lists.list.len().unique().to_list()
    if widths not in ([], [width]):
        raise CatalogError(
            f"{modality} vectors of width {', '.join(map(str, widths))}, but the model was trained "
            f"with width {width}"
        )
    values = torch.zeros(len(column), width)
    has_it = torch.from_numpy(present.to_numpy().copy())
    flat = lists.explode().fill_null(float("nan")).to_numpy().reshape(-1, width)
    values[has_it] = torch.from_numpy(np.array(flat, dtype=np.float32))
    return _checked(modality, ItemFeatures(values, has_it), catalog, "the new items")


def _checked(modality: str, features: ItemFeatures, catalog: Catalog, origin: str) -> ItemFeatures:
    width = catalog.features[modality].values.shape[1]
    if features.values.shape[1] != width:
        raise CatalogError(
            f"{origin}: {modality} vectors of width {features.values.shape[1]}, but the model was "
            f"trained with width {width}"
        )
    features = features._replace(values=features.values.to(catalog.features[modality].values))
    if not all_finite(features.values):
        raise CatalogError(
            f"{origin}: {modality} vectors with NaN, infinite or too large values; remove them"
        )
    blocks = features.values.split(ROWS_PER_CHUNK)
    length = torch.cat([rows.float().norm(dim=1) for rows in blocks])[features.present]
    is_off = (length - 1).abs() > LENGTH_TOLERANCE
    if catalog.info.get(modality, {}).get("normalization") == "l2" and bool(is_off.any()):
        raise CatalogError(
            f"{origin}: {modality} vectors have lengths like {float(length[is_off][0]):.3g}, but the "
            f"model was trained with vectors of length 1: divide them by their length"
        )
    return features
