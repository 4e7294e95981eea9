"""Small pictures of items, embedded in a page: no file is ever sent."""

import base64
import io
import os
from functools import lru_cache
from pathlib import Path, PurePosixPath

import polars as pl

from recbole_mm.prepare.item_pictures import find_pictures
from recbole_mm.recommend.item_details import item_details, picture_names
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.file_names import UnsafeName, path_inside
from recbole_mm.tools.pictures import PictureError, read_picture

SIDE = 160
"""Pixels of the longer side of a thumbnail."""
KEPT = 2048
"""Number of thumbnails in memory."""


class Thumbnails:
    """Thumbnails by item.

    Args:
        recommender: recommender whose items are shown.
        folder: folder of pictures that have the names of the data set, or are named after their
            item; ``None``: those of the data set that the recommender was trained on, if it is
            loaded and has some, and those of added items.

    Raises:
        UserError: the folder has no such picture.
    """

    def __init__(self, recommender, folder: Path | None = None):
        tokens = recommender.catalog.tokens[1:]
        if folder is not None:
            config = recommender.config if recommender.has_data else None
            names = picture_names(recommender.catalog, config)
            paths = _in_folder(folder, tokens, None if names is None else names[1:])
        else:
            paths = _known(recommender, tokens)
        self.paths = {t: path for t, path in zip(tokens, paths, strict=True) if path}
        self._data_uri = lru_cache(KEPT)(_data_uri)

    def __getitem__(self, item: str) -> str | None:
        """The picture of an item as a ``data:`` address, or ``None``."""
        path = self.paths.get(item)
        return self._data_uri(path) if path else None


def _in_folder(folder: Path, tokens: pl.Series, names: pl.Series | None) -> list[str | None]:
    """The picture of each item: the one with its name in the data set, or else one that is named
    after the item and does not belong to another one.

    Raises:
        UserError: no item has a picture.
    """
    inside = folder.resolve()
    named = [_named(inside, name) for name in ([None] * len(tokens) if names is None else names)]
    taken = set(named)
    others = tokens.filter(pl.Series([path is None for path in named], dtype=pl.Boolean))
    found = find_pictures(folder, others, required=False)
    own = {token: _named(inside, name) for token, name in zip(others, found, strict=True)}
    own = {token: path for token, path in own.items() if path not in taken}
    paths = [path or own.get(token) for token, path in zip(tokens, named, strict=True)]
    if not any(paths):
        raise UserError(_nothing_found(folder, tokens, names))
    return paths


def _named(folder: Path, name: str | None) -> str | None:
    """The picture with a name; the folder may be one of those at the start of the name."""
    parts = PurePosixPath((name or "").replace("\\", "/")).parts
    for first in range(len(parts)):
        path = _inside(folder, "/".join(parts[first:]))
        if path is not None and os.path.isfile(path):
            return path
    return None


def _inside(folder: Path, name: str) -> str | None:
    """The path, unless it leads out of the folder, by itself or as a link."""
    try:
        path = path_inside(folder, name).resolve()
    except UnsafeName:
        return None
    return str(path) if path.is_relative_to(folder) else None


def _nothing_found(folder: Path, tokens: pl.Series, names: pl.Series | None) -> str:
    known = [] if names is None else names.drop_nulls().to_list()
    named = (
        f", or as in the data set, {known[0]}"
        if known
        else ". The names of the data set are not known here; a bundle has them if it is exported from "
        "a checkpoint whose data set has a column image"
    )
    return f"{folder}: no picture of an item. One is named after its item, {tokens[0]}.jpg{named}"


def _known(recommender, tokens: pl.Series) -> list[str | None]:
    of_data = _of_dataset(recommender, tokens)
    added = recommender.catalog.pictures
    return (
        of_data
        if added is None
        else added[1:].fill_null(pl.Series(of_data, dtype=pl.String)).to_list()
    )


def _of_dataset(recommender, tokens: pl.Series) -> list[str | None]:
    nothing: list[str | None] = [None] * len(tokens)
    if not recommender.has_data:
        return nothing
    try:
        return item_details(recommender.config, tokens, ["image"])["image"].to_list()
    except UserError:
        return nothing


def _data_uri(path: str) -> str | None:
    try:
        picture = read_picture(path, SIDE)
    except PictureError:
        return None
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
