"""Titles and pictures of the catalog's items, from the ``.item`` file of a data set."""

from pathlib import Path

import polars as pl

from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.recommend.catalog import CatalogError


def item_details(config: dict, tokens: pl.Series, names: list[str]) -> pl.DataFrame:
    """What the data set tells of some items.

    Args:
        config: with ``data_path`` (the folder of all data sets), ``dataset``, and the names of its
            columns.
        tokens: outside ids of the items, ``(n_items,)``.
        names: of ``title`` and ``image``, the path of the picture.

    Returns:
        one row per token; null where nothing is known.

    Raises:
        CatalogError: the data set has no such column.
        InputError: the data set does not exist.
    """
    prepared = PreparedDataset(config["data_path"], config["dataset"], config)
    known = prepared.items
    missing = [name for name in names if name not in known.columns]
    if missing:
        raise CatalogError(
            f"{prepared.path('item')}: no column {missing[0]!r}, its columns are {known.columns}; "
            f"leave {'titles' if 'title' in missing else 'pictures'} out"
        )
    if "image" in names:
        paths = [None if path is None else str(Path(path)) for path in prepared.pictures()]
        known = known.with_columns(image=pl.Series(paths, dtype=pl.String))
    rows = pl.DataFrame({"item_id": tokens})
    known = known.select("item_id", *names).unique("item_id", keep="first")
    return rows.join(known, on="item_id", how="left", maintain_order="left").select(names)
