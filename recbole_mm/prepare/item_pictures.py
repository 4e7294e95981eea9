"""The pictures of items: by the name of the file, or by a column with their paths."""

import contextlib
import os
from pathlib import Path

import polars as pl

from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.counts import counted
from recbole_mm.tools.file_names import UnsafeName, path_inside
from recbole_mm.tools.pictures import picture_suffixes


def find_pictures(folder: Path, item_ids: pl.Series, required: bool = True) -> pl.Series:
    """Names of the pictures that are named after their item: ``<item>.jpg``, ``<item>.PNG``, ...

    Args:
        folder: folder of the pictures.
        item_ids: tokens of the items.
        required: whether to refuse a folder in which no item has a picture.

    Returns:
        a name for each item, null where it has none.

    Raises:
        InputError: an item has two pictures, or none has one.
    """
    endings, wanted = picture_suffixes(), set(item_ids)
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.stem not in wanted or path.suffix.lower() not in endings or path.is_dir():
            continue
        if path.stem in found:
            raise InputError(
                f"{folder}: item {path.stem!r} has two pictures, {found[path.stem]} and {path.name}; "
                f"keep one of them."
            )
        found[path.stem] = path.name
    if required and not found:
        raise InputError(
            f"{folder}: no picture is named after an item, as in {item_ids[0]}.jpg; rename them, or "
            f"add a column with the path of each item's picture (--item-text image=COLUMN). Endings "
            f"are {', '.join(sorted(endings))}, in lower or upper case."
        )
    return pl.Series([found.get(item) for item in item_ids], dtype=pl.String)


def inside(folder: Path, beside: Path, paths: pl.Series) -> pl.Series:
    """Paths of pictures, relative to their folder.

    Args:
        folder: folder that must contain all pictures, directly or in subfolders.
        beside: folder of the table; paths are relative to ``folder``, or to this one if that leads
            into ``folder``.
        paths: paths in the table, null where there is none.

    Returns:
        Relative paths; null where a path leads out of the folder, which is reported.
    """
    relative = [relative_path(folder, beside, (path or "").strip()) for path in paths]
    outside = [path for path, name in zip(paths, relative, strict=True) if path and name is None]
    if outside:
        parents = {os.path.dirname(_absolute(beside, path)) for path in outside}
        print(
            f"skipped {counted(len(outside), 'picture', 'pictures')} outside the folder {folder}, "
            f"e.g. {outside[0]!r}. To include such pictures, name their folder: "
            f"--images={os.path.commonpath(parents)}"
        )
    return pl.Series([name or None for name in relative], dtype=pl.String)


def relative_path(folder: Path, beside: Path, path: str) -> str | None:
    """The path of a picture from its folder; arguments as for :func:`inside`.

    Returns:
        ``""`` without a path, ``None`` if it leads out of the folder.
    """
    if not path:
        return ""
    for start in (folder, beside):
        name = os.path.relpath(_absolute(start, path), os.path.abspath(folder))
        with contextlib.suppress(UnsafeName):
            path_inside(folder, name)
            return Path(name).as_posix()
    return None


def _absolute(start: Path, path: str) -> str:
    """The path without ``..``; links are not followed."""
    return os.path.abspath(os.path.join(start, path))
