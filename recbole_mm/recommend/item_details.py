"""Titles and pictures of the catalog's items, from the ``.item`` file of a data set."""

import polars as pl

from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.recommend.catalog import Catalog, CatalogError
from recbole_mm.tools.errors import UserError


def item_details(config: dict, tokens: pl.Series, names: list[str]) -> pl.DataFrame:
    """What the data set says about some items.

    Args:
        config: configuration with ``data_path`` (the folder of all data sets), ``dataset``, and the
            names of its columns.
        tokens: external ids of the items, ``(n_items,)``.
        names: one or both of ``title`` and ``image`` (the path of the picture).

    Returns:
        one row per token; null where nothing is known.

    Raises:
        CatalogError: the data set has no such column.
        InputError: the data set does not exist.
    """
    prepared = _prepared(config)
    known = prepared.items
    missing = [name for name in names if name not in known.columns]
    if missing:
        option = "titles" if "title" in missing else "pictures"
        raise CatalogError(
            f"{prepared.path('item')}: no column {missing[0]!r}, its columns are {known.columns}; "
            f"omit --{option} (in Python {option}=True)"
        )
    if "image" in names:
        known = known.with_columns(image=pl.Series(_picture_paths(prepared), dtype=pl.String))
    return _of_tokens(known, tokens, names)


def listed_items(config: dict) -> pl.DataFrame:
    """The items of the ``.item`` file: ``item`` and, if it has titles, ``title``.

    Args:
        config: see :func:`item_details`.
    """
    prepared = _prepared(config)
    if not prepared.path("item").is_file():
        return pl.DataFrame(schema={"item": pl.String})
    columns = [name for name in ("item_id", "title") if name in prepared.items.columns]
    listed = prepared.items.select(columns).unique("item_id", keep="first", maintain_order=True)
    return listed.rename({"item_id": "item"})


def picture_names(catalog: Catalog, config: dict | None) -> pl.Series | None:
    """Paths of the items' pictures relative to the folder of all pictures, null where unknown.

    Args:
        catalog: items of the model.
        config: configuration of the loaded data set, see :func:`item_details`; ``None``: none is
            loaded.

    Returns:
        ``(n_items,)`` strings; ``None`` if the data set names no pictures.
    """
    if config is None:
        return catalog.picture_names
    try:
        prepared = _prepared(config)
        known = prepared.items
        paths = _picture_paths(prepared)
    except UserError:
        return catalog.picture_names
    if "image" not in known.columns:
        return catalog.picture_names
    is_inside = pl.Series([path is not None for path in paths], dtype=pl.Boolean)
    named = known.with_columns(image=pl.when(is_inside).then(pl.col("image")))
    of_data = _of_tokens(named, catalog.tokens, ["image"])["image"]
    added = catalog.picture_names
    return of_data if added is None else added.fill_null(of_data)


def _prepared(config: dict) -> PreparedDataset:
    return PreparedDataset(config["data_path"], config["dataset"], config)


def _picture_paths(prepared: PreparedDataset) -> list[str | None]:
    return [None if path is None else str(path) for path in prepared.pictures()]


def _of_tokens(known: pl.DataFrame, tokens: pl.Series, names: list[str]) -> pl.DataFrame:
    """Some columns, one row per token."""
    rows = pl.DataFrame({"item_id": tokens})
    known = known.select("item_id", *names).unique("item_id", keep="first")
    return rows.join(known, on="item_id", how="left", maintain_order="left").select(names)
