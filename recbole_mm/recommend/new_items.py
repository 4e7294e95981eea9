"""Items that the model was not trained with, from a table: ready vectors, or texts and pictures.

A column that is named like a modality and has lists has vectors. Otherwise texts and pictures are
encoded as those of the training were: the text is that of the same columns (``title``, ``brand``,
...), or of a column ``text``; ``image`` is the path of the picture, from the folder of the table.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from recbole_mm.data.feature_files import (
    ROWS_PER_CHUNK,
    content_of,
    describe_features,
    read_feature_rows,
    read_feature_tokens,
)
from recbole_mm.data.features import ItemFeatures, all_finite
from recbole_mm.recommend.catalog import SHOWN, Catalog, CatalogError
from recbole_mm.recommend.encoding import Encoded, encode
from recbole_mm.recommend.tables import USUAL, TableForm, read_items_table
from recbole_mm.tools.file_names import UnsafeName, path_inside

LENGTH_TOLERANCE = 0.02
"""Of vectors that should have length 1; float16 is far within."""


class NewItems(NamedTuple):
    """Items with features of every modality of a catalog, one row each.

    Attributes:
        tokens: outside ids.
        features: by modality; an item may lack some.
        titles: or null.
        problems: texts and pictures that could not be read, in words.
    """

    tokens: list[str]
    features: dict[str, ItemFeatures]
    titles: list[str | None]
    problems: list[str]


def read_new_items(
    catalog: Catalog,
    table=None,
    vectors: Mapping[str, str | Path] | None = None,
    form: TableForm = USUAL,
    pictures=None,
    device=None,
) -> tuple[NewItems, list[str]]:
    """Read the items of a table that a catalog does not have.

    Args:
        catalog: its modalities are looked for.
        table: of items, any format that recbole-mm prepare reads, or a polars or pandas frame.
        vectors: feature files of modalities; without a table its items are theirs.
        form: the column of the items, and how the table is written.
        pictures: folder that paths of pictures start from; ``None``: that of the table.
        device: of an encoder; ``None``: a GPU if there is one.

    Returns:
        the new items; and all items of the table, in its order.

    Raises:
        CatalogError: items without id, duplicates, vectors of another width, length or encoder, raw
            content that cannot be encoded, or no content at all.
        TableError: the table has no column of items.
        InputError, FeatureFileError: a file cannot be read.
    """
    vectors = dict(vectors or {})
    files = [str(path) for path in (table, *vectors.values()) if isinstance(path, (str, Path))]
    try:
        return _read(catalog, table, vectors, form, pictures, device)
    except CatalogError as error:
        if not files or any(file in str(error) for file in files):
            raise
        raise CatalogError(f"{', '.join(files)}: {error}") from error


def _read(catalog: Catalog, table, vectors: dict, form: TableForm, pictures, device):
    unknown = sorted(vectors.keys() - catalog.features.keys())
    if unknown:
        raise CatalogError(f"the model has no modality {unknown}; it has {list(catalog.features)}")
    rows = _rows(table, vectors, form)
    tokens = rows["item"].to_list()
    known = set(catalog.tokens[1:].to_list())
    new = rows.filter(pl.Series([token not in known for token in tokens], dtype=pl.Boolean))
    if not catalog.features:
        raise CatalogError("the model knows items by their ID alone: new items need a training")
    folder = Path(pictures) if pictures else _folder_of(table)
    features, problems = {}, []
    for modality in catalog.features:
        found = _features(modality, new, catalog, vectors.get(modality), folder, device)
        features[modality] = found.features
        problems += [f"{new['item'][row]}: {why}" for row, why in found.problems]
    if len(new) and not any(bool(each.present.any()) for each in features.values()):
        raise CatalogError(
            f"the new items have neither vectors nor content of {list(catalog.features)}: the "
            f"table has the columns {rows.columns}" + (f"; {problems[0]}" if problems else "")
        )
    titles = new["title"].to_list() if "title" in new.columns else [None] * len(new)
    titles = [None if title is None else str(title) for title in titles]
    return NewItems(new["item"].to_list(), features, titles, problems), tokens


def _rows(table, vectors: Mapping, form: TableForm) -> pl.DataFrame:
    if table is not None:
        rows = read_items_table(table, form)
    elif vectors:
        tokens = dict.fromkeys(t for path in vectors.values() for t in read_feature_tokens(path))
        rows = pl.DataFrame({"item": list(tokens)}, schema={"item": pl.String})
    else:
        raise CatalogError("give a table of items, or feature files")
    missing = rows["item"].fill_null("") == ""
    if missing.any():
        raise CatalogError(f"row {missing.arg_true()[0] + 1} of the new items has no item")
    again = rows["item"].filter(rows["item"].is_duplicated()).unique(maintain_order=True)
    if len(again):
        raise CatalogError(
            f"{len(again)} duplicate items, e.g. {again[:SHOWN].to_list()}; keep one row per item"
        )
    return rows


def _folder_of(table) -> Path:
    return Path(table).parent if isinstance(table, (str, Path)) else Path()


def _features(modality: str, new: pl.DataFrame, catalog: Catalog, file, folder, device) -> Encoded:
    width = catalog.features[modality].values.shape[1]
    if len(new) == 0:
        return _without(0, width)
    if file is not None:
        return Encoded(_of_file(modality, new["item"], catalog, file), [])
    if modality in new.columns and isinstance(new.schema[modality], (pl.List, pl.Array)):
        return Encoded(_of_lists(modality, new, catalog), [])
    content = content_of(modality, catalog.info.get(modality, {}))
    if content == "image" and "image" in new.columns:
        return _of_pictures(modality, new["image"], catalog, folder, device)
    if content == "text":
        texts = _texts(new, catalog.info.get(modality, {}))
        if any(texts):
            return encode(modality, texts, catalog, device)
    return _without(len(new), width)


def _without(n: int, width: int) -> Encoded:
    return Encoded(ItemFeatures(torch.zeros(n, width), torch.zeros(n, dtype=torch.bool)), [])


def _of_file(modality: str, tokens: pl.Series, catalog: Catalog, file) -> ItemFeatures:
    mine, theirs = catalog.info.get(modality, {}), describe_features(file)
    for fact in ("encoder", "revision", "pooling", "prompt", "space"):
        if mine.get(fact) and theirs.get(fact) and mine[fact] != theirs[fact]:
            raise CatalogError(
                f"{file}: {modality} vectors of the {fact} {theirs[fact]!r}, but the model was "
                f"trained with {mine[fact]!r}; extract them with that one, or give the texts or "
                f"pictures themselves (--new-items)"
            )
    values, present = read_feature_rows(file, ["[PAD]", *tokens])
    features = ItemFeatures(torch.from_numpy(values[1:]), torch.from_numpy(present[1:]))
    return _checked(modality, features, catalog, str(file))


def _of_lists(modality: str, new: pl.DataFrame, catalog: Catalog) -> ItemFeatures:
    width = catalog.features[modality].values.shape[1]
    present = new[modality].is_not_null()
    lists = new[modality].filter(present).cast(pl.List(pl.Float32), strict=False)
    widths = lists.list.len().unique().to_list()
    if widths not in ([], [width]):
        raise CatalogError(
            f"{modality} vectors of width {', '.join(map(str, widths))}, but the model was trained "
            f"with width {width}"
        )
    values = torch.zeros(len(new), width)
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
            f"{origin}: {modality} vectors with NaN, infinite or too large values; leave them out"
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


def _of_pictures(
    modality: str, paths: pl.Series, catalog: Catalog, folder: Path, device
) -> Encoded:
    content: list[Path | None] = []
    refused = []
    for row, name in enumerate(paths.cast(pl.String)):
        try:
            content.append(path_inside(folder, name) if name else None)
        except UnsafeName as error:
            content.append(None)
            refused.append((row, str(error)))
    if not any(content):
        return _without(len(content), catalog.features[modality].values.shape[1])._replace(
            problems=refused
        )
    found = encode(modality, content, catalog, device)
    return found._replace(problems=refused + found.problems)


def _texts(new: pl.DataFrame, info: Mapping) -> list[str]:
    """The texts of the columns that those of the training were made of, or of a column ``text``."""
    fields = info.get("input")
    fields = fields if isinstance(fields, list) else []
    columns = [name for name in fields if name in new.columns] or [
        name for name in ("text",) if name in new.columns
    ]
    if not columns:
        return [""] * len(new)
    parts = [pl.col(name).cast(pl.String).str.replace_all(r"\s+", " ") for name in columns]
    joined = pl.concat_str(parts, separator=" ", ignore_nulls=True).str.strip_chars()
    return new.select(joined.fill_null("").alias("text")).to_series().to_list()
