"""Items that the model was not trained with, from a table: ready vectors, or texts and pictures.

A column that is named like a modality and holds lists of numbers (in a csv, cells like
``[0.1, 0.2]``) gives vectors. Otherwise texts and pictures are encoded like those of the training:
the text comes from the same columns (``title``, ``brand``, ..., which may have other names), or
from a column ``text``;
``image`` is the path of the picture: absolute, or relative to the folder of the pictures or of the
table.
"""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
import torch

from recbole_mm.data.feature_files import content_of, read_feature_tokens
from recbole_mm.data.features import ItemFeatures
from recbole_mm.prepare.item_pictures import relative_path
from recbole_mm.prepare.item_table import as_text
from recbole_mm.recommend.catalog import SHOWN, Catalog, CatalogError, Picture
from recbole_mm.recommend.encoding import AS_RECORDED, Encoded, EncoderChoice, encode
from recbole_mm.recommend.ready_vectors import (
    is_vector_column,
    vectors_of_file,
    vectors_of_table,
)
from recbole_mm.recommend.tables import USUAL, TableForm, read_items_table
from recbole_mm.tools.counts import counted
from recbole_mm.tools.file_names import UnsafeName
from recbole_mm.tools.pictures import PictureError

RENAME = (
    "name columns of other names with --item-text FIELD=COLUMN; in Python TableForm(item_text=...)"
)
logger = logging.getLogger(__name__)


class NewItems(NamedTuple):
    """Items with features of every modality of a catalog, one row each.

    Attributes:
        tokens: external ids.
        features: features by modality; an item may lack some.
        titles: titles, or ``None``.
        pictures: pictures, or ``None``.
        problems: messages about texts and pictures that could not be read.
    """

    tokens: list[str]
    features: dict[str, ItemFeatures]
    titles: list[str | None]
    pictures: list[Picture | None]
    problems: list[str]


class PictureFolders(NamedTuple):
    """Where the pictures of a table of items are.

    Attributes:
        inside: folder that holds all pictures, directly or in subfolders.
        beside: folder of the table; a path may also be relative to this one.
    """

    inside: Path
    beside: Path

    def find(self, name: str | None) -> Path | None:
        """The picture of this name; ``None`` without a name.

        Raises:
            UnsafeName: the path leads out of the folder.
            PictureError: there is no such file.
        """
        name = (name or "").strip()
        relative = relative_path(self.inside, self.beside, name)
        if relative is None:
            folder = os.path.dirname(os.path.abspath(os.path.join(self.beside, name)))
            raise UnsafeName(
                f"picture {name!r} is not in the folder {self.inside.absolute()} (to include it, "
                f"name its folder: --images={folder}; in Python pictures=...)"
            )
        if not relative:
            return None
        path = self.inside / relative
        if not path.is_file():
            raise PictureError(
                f"no picture {name!r} in the folder {self.inside.absolute()} (name the folder that "
                f"the path is relative to: --images=FOLDER; in Python pictures=...)"
            )
        return path

    def described(self, path: Path) -> Picture:
        """A picture that :meth:`find` found."""
        return Picture(str(path), path.relative_to(self.inside).as_posix())


def read_new_items(
    catalog: Catalog,
    table=None,
    vectors: Mapping[str, str | Path] | None = None,
    form: TableForm = USUAL,
    pictures=None,
    encoder: EncoderChoice = AS_RECORDED,
) -> tuple[NewItems, list[str]]:
    """Read the items of a table that are not in a catalog.

    Args:
        catalog: catalog, whose modalities are read.
        table: table of items, in any format that recbole-mm prepare reads, or a polars or pandas
            frame.
        vectors: feature files by modality; without a table, their items are the new ones.
        form: item column, columns of texts and format of the table.
        pictures: folder to which picture paths are relative; ``None``: that of the table.
        encoder: location of the encoder of texts and pictures.

    Returns:
        the new items, and all items of the table in its order.

    Raises:
        CatalogError: items without id, duplicates, vectors of another width, length or encoder, raw
            content that cannot be encoded, or no content at all.
        TableError: the table has no column of items.
        InputError, FeatureFileError: a file cannot be read.
    """
    vectors = dict(vectors or {})
    files = [str(path) for path in (table, *vectors.values()) if isinstance(path, (str, Path))]
    try:
        return _read(catalog, table, vectors, form, pictures, encoder)
    except CatalogError as error:
        if not files or any(file in str(error) for file in files):
            raise
        raise CatalogError(f"{', '.join(files)}: {error}") from error


def _read(catalog: Catalog, table, vectors: dict, form: TableForm, folder, encoder):
    unknown = sorted((vectors.keys() | encoder.folders.keys()) - catalog.features.keys())
    if unknown:
        raise CatalogError(f"the model has no modality {unknown}; it has {list(catalog.features)}")
    rows = _rows(table, vectors, form)
    tokens = rows["item"].to_list()
    known = set(catalog.tokens[1:].to_list())
    new = rows.filter(pl.Series([token not in known for token in tokens], dtype=pl.Boolean))
    if not catalog.features:
        raise CatalogError("the model knows items only by their IDs: new items need a training")
    beside = Path(table).parent if isinstance(table, (str, Path)) else Path()
    folders = PictureFolders(Path(folder or beside), beside)
    found, refused = _find_pictures(new, folders)
    source = _Source(new, catalog, found, refused, encoder)
    features, problems = {}, []
    for modality in catalog.features:
        encoded = _features(modality, source, vectors.get(modality))
        features[modality] = encoded.features
        problems += [f"{new['item'][row]}: {why}" for row, why in encoded.problems]
    if len(new) and not any(bool(each.present.any()) for each in features.values()):
        raise CatalogError(
            f"the new items have neither vectors nor content of {list(catalog.features)}, which is "
            f"read from the columns {', '.join(_wanted(catalog))}: the table has the columns "
            f"{rows.columns}{'' if table is None else f' ({RENAME})'}"
            + (f"; {problems[0]}" if problems else "")
        )
    if table is not None and len(new):
        _report_lacking(new, catalog, vectors)
    titles = new["title"].to_list() if "title" in new.columns else [None] * len(new)
    titles = [None if title is None else str(title) for title in titles]
    pictures = [None if path is None else folders.described(path) for path in found]
    return NewItems(new["item"].to_list(), features, titles, pictures, problems), tokens


def _report_lacking(new: pl.DataFrame, catalog: Catalog, vectors: Mapping) -> None:
    """Report columns of the training's texts and pictures that a table of new items lacks."""
    lacking: dict[str, list[str]] = {}
    for modality in catalog.features:
        info = catalog.info.get(modality, {})
        content = content_of(modality, info)
        if content is None or modality in vectors or is_vector_column(modality, new):
            continue
        names = ["image"] if content == "image" else _text_fields(info)
        missing = [name for name in names if name not in new.columns]
        is_whole_text = len(missing) == len(names) and "text" in new.columns
        if missing and not (content == "text" and is_whole_text):
            lacking[modality] = missing
    if lacking:
        columns = "; ".join(
            f"{modality}: {', '.join(names)}" for modality, names in lacking.items()
        )
        logger.warning(
            f"new items: the table lacks columns that the features of the training are made of, where "
            f"they exist ({columns}); without them vectors are worse ({RENAME}). The table has {new.columns}"
        )


def _wanted(catalog: Catalog) -> list[str]:
    """Names of columns that may hold content of some modality."""
    names: list[str] = []
    for modality in catalog.features:
        info = catalog.info.get(modality, {})
        content = content_of(modality, info)
        names += _text_fields(info) if content == "text" else []
        names += [content, modality] if content else [modality]
    return list(dict.fromkeys(names))


class _Source(NamedTuple):
    """New items, and what is needed to read their content.

    Attributes:
        rows: one row per item.
        catalog: catalog that they join.
        pictures: picture path of each item, or ``None``.
        refused: rows whose picture is missing or outside its folder, and why.
        encoder: location of the encoder of texts and pictures.
    """

    rows: pl.DataFrame
    catalog: Catalog
    pictures: list[Path | None]
    refused: list[tuple[int, str]]
    encoder: EncoderChoice


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
            f"{counted(len(again), 'duplicate item', 'duplicate items')}, e.g. "
            f"{again[:SHOWN].to_list()}; keep one row per item"
        )
    return rows


def _features(modality: str, source: _Source, file) -> Encoded:
    new, catalog = source.rows, source.catalog
    info = catalog.info.get(modality, {})
    width = catalog.features[modality].values.shape[1]
    if len(new) == 0:
        return _without(0, width)
    if file is not None:
        return Encoded(vectors_of_file(modality, new["item"], catalog, file), [])
    vectors = vectors_of_table(modality, new, catalog)
    if vectors is not None:
        return Encoded(vectors, [])
    content = content_of(modality, info)
    if content == "image" and "image" in new.columns:
        return _of_pictures(modality, source)
    if content == "text":
        texts = _texts(new, info)
        if any(texts):
            return encode(modality, texts, catalog, source.encoder)
    return _without(len(new), width)


def _without(n: int, width: int) -> Encoded:
    return Encoded(ItemFeatures(torch.zeros(n, width), torch.zeros(n, dtype=torch.bool)), [])


def _find_pictures(
    new: pl.DataFrame, folders: PictureFolders
) -> tuple[list[Path | None], list[tuple[int, str]]]:
    """The path of each item's picture, or ``None``; and the rows whose picture is missing or
    outside the folder, with the reason."""
    found: list[Path | None] = [None] * len(new)
    refused: list[tuple[int, str]] = []
    if "image" not in new.columns or isinstance(new.schema["image"], (pl.List, pl.Array)):
        return found, refused
    for row, name in enumerate(new["image"].cast(pl.String)):
        try:
            found[row] = folders.find(name)
        except (UnsafeName, PictureError) as error:
            refused.append((row, str(error)))
    return found, refused


def _of_pictures(modality: str, source: _Source) -> Encoded:
    if not any(source.pictures):
        width = source.catalog.features[modality].values.shape[1]
        return _without(len(source.pictures), width)._replace(problems=source.refused)
    found = encode(modality, source.pictures, source.catalog, source.encoder)
    return found._replace(problems=source.refused + found.problems)


def _texts(new: pl.DataFrame, info: Mapping) -> list[str]:
    """The texts from the same columns as those of the training, or from a column ``text``."""
    columns = [name for name in _text_fields(info) if name in new.columns] or [
        name for name in ("text",) if name in new.columns
    ]
    if not columns:
        return [""] * len(new)
    parts = [as_text(name, new.schema[name]).str.replace_all(r"\s+", " ") for name in columns]
    joined = pl.concat_str(parts, separator=" ", ignore_nulls=True).str.strip_chars()
    return new.select(joined.fill_null("").alias("text")).to_series().to_list()


def _text_fields(info: Mapping) -> list[str]:
    """The columns from which the texts of the training were made, as far as they are known."""
    fields = info.get("input")
    return list(map(str, fields)) if isinstance(fields, list) else []
