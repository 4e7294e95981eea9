"""The nearest items of items: by each modality, and as the model sees them."""

from collections.abc import Iterable

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mm.data.feature_files import ROWS_PER_CHUNK
from recbole_mm.recommend.catalog import Catalog, CatalogError

FUSED = "fused"
COSINES_AT_ONCE = 1 << 25
"""Maximum number of cosines in memory, 128 MB."""


@torch.no_grad()
def similar_items(
    model, catalog: Catalog, items: Iterable[str], k: int, by: str | None = None
) -> pl.DataFrame:
    """The items with the largest cosine to each of some items.

    Args:
        model: model of this package, in evaluation mode.
        catalog: items of the model.
        items: external ids of the items.
        k: number of neighbors per item, fewer if there are not as many.
        by: a modality: by its features; ``fused``: by all that the model ranks by; ``None``: by each
            of these.

    Returns:
        ``item``, ``by``, ``similar``, ``score`` (the cosine) and ``rank``, from 1. An item without a
        modality neither has nor is a neighbor by it.

    Raises:
        CatalogError: an item is not in the catalog, ``k`` is not a whole number >= 1, or the model
            lacks the modality.
    """
    if type(k) is not int or k < 1:
        raise CatalogError(f"k is {k!r}; it must be a whole number >= 1")
    known = [*model.modalities, FUSED]
    if by is not None and by not in known:
        raise CatalogError(f"by is {by!r}; it must be one of {', '.join(known)}")
    asked = pl.Series([str(item) for item in items], dtype=pl.String)
    ids = catalog.ids_in_order(asked, "items")
    offered = catalog.offered.clone()
    offered[0] = False
    frames = []
    for name in known if by is None else [by]:
        table, present = _table(model, name)
        place, column, cosine, rank = _nearest(table, present, offered, ids, k)
        columns = {
            "place": place,
            "item": asked.gather(place),
            "by": pl.repeat(name, len(place), dtype=pl.String, eager=True),
            "similar": catalog.tokens.gather(column),
            "score": cosine,
            "rank": rank,
        }
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames).sort("place", maintain_order=True).drop("place")


def _table(model, name: str) -> tuple[Tensor, Tensor]:
    """The vectors of all items, and which of them have one."""
    if name == FUSED:
        return model.item_vectors(model.all_items()), ~model.never_recommended()
    return model.feature(name), model.present(name)


def _nearest(
    table: Tensor, present: Tensor, offered: Tensor, ids: Tensor, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The place in ``ids``, the id of the neighbor, the cosine and the rank of each pair."""
    present = present.cpu()
    others = (~(present & offered)).to(table.device)
    places = present[ids].nonzero().squeeze(1)
    found = [(np.zeros(0, np.int64),) * 2 + (np.zeros(0, np.float32), np.zeros(0, np.int32))]
    size = max(1, COSINES_AT_ONCE // len(table))
    for first in range(0, len(places), size):
        rows = places[first : first + size]
        own = ids[rows].to(table.device)
        query = F.normalize(table[own].float(), dim=1)
        blocks = table.split(ROWS_PER_CHUNK)  # features may be float16, and large
        cosines = torch.cat([query @ F.normalize(part.float(), dim=1).T for part in blocks], dim=1)
        cosines[:, others] = -torch.inf
        cosines[torch.arange(len(own)), own] = -torch.inf
        best = cosines.topk(min(k, len(table)))
        values, columns = best.values.cpu().numpy(), best.indices.cpu().numpy()
        row, rank = np.nonzero(values > -np.inf)
        pairs = rows.numpy()[row], columns[row, rank], values[row, rank]
        found.append((*pairs, rank.astype(np.int32) + 1))
    place, column, cosine, rank = map(np.concatenate, zip(*found, strict=True))
    return place, column, cosine, rank
