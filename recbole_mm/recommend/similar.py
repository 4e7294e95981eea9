"""The nearest items of an item: by each modality, and as the model sees it."""

from collections.abc import Iterable

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from recbole_mm.data.feature_files import ROWS_PER_CHUNK
from recbole_mm.recommend.catalog import Catalog, CatalogError

FUSED = "fused"


@torch.no_grad()
def similar_items(model, catalog: Catalog, items: Iterable[str], k: int) -> pl.DataFrame:
    """The items with the largest cosine to each of some items.

    Args:
        model: model of this package, in evaluation mode.
        catalog: items of the model.
        items: external ids of the items.
        k: number of neighbors per item, fewer if there are not as many.

    Returns:
        ``item``, ``by`` (a modality: by its features; ``fused``: by all that the model ranks by),
        ``similar``, ``score`` (the cosine) and ``rank``, from 1. An item without a modality neither
        has nor is a neighbor by it.

    Raises:
        CatalogError: an item is not in the catalog, or ``k`` is not a whole number >= 1.
    """
    if type(k) is not int or k < 1:
        raise CatalogError(f"k is {k!r}; it must be a whole number >= 1")
    tables = {name: (model.feature(name), model.present(name)) for name in model.modalities}
    fused = model.item_vectors(model.all_items())
    tables[FUSED] = fused, ~model.never_recommended()
    offered = catalog.offered.to(fused.device)
    offered[0] = False
    asked = [str(item) for item in items]
    ids = catalog.ids_in_order(asked, "items").tolist()
    rows = [
        (item, by, catalog.tokens[neighbor], score, rank)
        for item, item_id in zip(asked, ids, strict=True)
        for by, (table, present) in tables.items()
        if present[item_id]
        for rank, (neighbor, score) in enumerate(_nearest(table, item_id, present & offered, k), 1)
    ]
    schema = {
        "item": pl.String,
        "by": pl.String,
        "similar": pl.String,
        "score": pl.Float32,
        "rank": pl.Int32,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _nearest(table: Tensor, item_id: int, candidates: Tensor, k: int) -> list[tuple[int, float]]:
    query = F.normalize(table[item_id].float(), dim=0)
    blocks = table.split(ROWS_PER_CHUNK)  # features may be float16, and large
    cosines = torch.cat([F.normalize(rows.float(), dim=1) @ query for rows in blocks])
    others = candidates.clone()
    others[item_id] = False
    best = cosines.masked_fill(~others, -torch.inf).topk(min(k, int(others.sum())))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
