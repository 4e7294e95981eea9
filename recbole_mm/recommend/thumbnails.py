"""Small pictures of items for a page, inside of the page: no file is ever sent."""

import base64
import io
from functools import lru_cache
from pathlib import Path

import polars as pl

from recbole_mm.prepare.item_pictures import find_pictures
from recbole_mm.recommend.item_details import item_details
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.pictures import PictureError, read_picture

SIDE = 160
"""Pixels."""
KEPT = 2048
"""Thumbnails in memory."""


class Thumbnails:
    """Thumbnails by item.

    Args:
        recommender: whose items they are of.
        folder: with pictures that are named after their item; ``None``: those of the data set that
            the recommender was trained on, if it is loaded and has some, and those of added items.

    Raises:
        UserError: the folder has no such picture.
    """

    def __init__(self, recommender, folder: Path | None = None):
        tokens = recommender.catalog.tokens[1:]
        if folder is not None:
            names, folder = find_pictures(folder, tokens), folder.resolve()
            paths = [name and _inside(folder, name) for name in names]
        else:
            paths = _known(recommender, tokens)
        self.paths = {t: path for t, path in zip(tokens, paths, strict=True) if path}
        self._data_uri = lru_cache(KEPT)(_data_uri)

    def __getitem__(self, item: str) -> str | None:
        """The picture of an item as a ``data:`` address, or ``None``."""
        path = self.paths.get(item)
        return self._data_uri(path) if path else None


def _inside(folder: Path, name: str) -> str | None:
    """The path, unless it is a link that leads out of the folder."""
    path = (folder / name).resolve()
    return str(path) if path.is_relative_to(folder) else None


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
