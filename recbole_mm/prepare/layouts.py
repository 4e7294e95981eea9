"""Public data sets in their authors' layouts, read like your own tables: which file holds what, and
how it is written. Nothing heavy is imported, and only the first lines of a table are read.

The layouts are those of the authors' descriptions and code.

**NineRec** (github.com/westlake-repl/NineRec: README, ``get_behaviour.py``, ``get_lmdb.py`` and the readers
in ``Baseline``), here for QB:

- ``QB_pair.csv``: three columns without a header. The README has user, item, time; the code reads
  item, user, time. Which of the first two holds items is looked up in ``QB_item.csv``; if both do, it is
  the second. If someone has added a header, the header decides.
- ``QB_behaviour.tsv``: a user, a tab, and the items in order of time, separated by blanks; used if
  the pairs have no times (QB and TN).
- ``QB_item.csv``: item, text in Chinese, text in English; csv without a header.
- ``QB_cover/``: pictures, ``<item>.jpg``. Bili_2M and Bili_500K share ``Source_Bili_2M_cover``.

**MicroLens** (github.com/westlake-repl/MicroLens: README, ``Code/IDRec/process_data.ipynb``, ``Data
Processing/generate_cover_frames_lmdb.py``; the readme.txt of the 50k set):

- ``MicroLens-50k_pairs.csv``: user, item, time in milliseconds, with a header.
- ``MicroLens-50k_pairs.tsv``: a user, a tab, and the items in order of time, separated by blanks;
  used if there are no pairs with times.
- ``MicroLens-50k_titles.csv``, ``MicroLens-100k_title_en.csv``, ``MicroLens-1M_title.csv``: an item, a
  comma and a title, with a header only in the 50k set; quotes in titles are not always closed.
- ``MicroLens-50k_covers/``: pictures, ``<item>.jpg``.

**PixelRec** (github.com/westlake-repl/PixelRec: ``dataset/readme.md``, ``code/REC/data/dataload.py``,
``code/generate_lmdb.py``), here for Pixel200K:

- ``pixelrec_interaction/Pixel200K.csv``: item_id, user_id, timestamp, with a header.
- ``pixelrec_iteminfo/Pixel200K.csv``: item_id, title, tag, description and counts, with a header.
- ``cover/``: pictures, ``<item>.jpg``, of all of PixelRec.

Times are numbers; those from 100,000,000,000 on are milliseconds (seconds would be after the year 5000).
"""

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from recbole_mm.prepare.formats import TextFormat, ending_of
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.pair_columns import columns_of_items, columns_of_pairs, items_in_pairs
from recbole_mm.prepare.text_tables import first_record

TIE = 100
"""A difference in at most one of this many pairs does not distinguish items from users."""

AMBIGUOUS = (
    "both of its first columns look like items: read in the order of the README, user before item; "
    "if the order is reversed, put the line item,user,timestamp (without times item,user) at the "
    "top of the file"
)
PLAIN_TERMS = (
    "the authors ask for a citation, and forbid modifying the data set privately and then offering it "
    "for download; their repository states no other license of the data"
)
PIXELREC_TERMS = (
    "for non-commercial research and education only; no rights to copy, modify, publish, distribute or "
    "commercialize the data set (LICENSE of its repository); the authors ask for a citation"
)


class Tables(NamedTuple):
    """The tables of a data set, and how they are read.

    Attributes:
        interactions: file of interactions.
        columns: columns of this file: ``user_column``, ``item_column`` and, with times,
            ``time_column``.
        text: format of this file.
        key_column: item column of the table of items.
        item_text: columns of an item's texts that have other names.
        items_text: format of the table of items.
        remark: note on the columns, if they are not certain.
    """

    interactions: Path
    columns: dict[str, str]
    text: TextFormat
    key_column: str
    item_text: dict[str, str]
    items_text: TextFormat
    remark: str = ""


class Layout(NamedTuple):
    """The layout of a public data set.

    Attributes:
        files: patterns of the paths in the folder, in lower case, by what they hold
            (``interactions``, ``items``, ``images``); the first pattern that matches counts.
        tables: function that takes the files of interactions and items, and their encoding.
        terms: terms of the data set, as its authors state them.
    """

    files: dict[str, tuple[str, ...]]
    tables: Callable[[Path, Path, str], Tables]
    terms: str


def find_files(layout: str, folder: Path | None, name: str, given: dict[str, Path | None]):
    """The interactions, items and pictures of a data set.

    Args:
        layout: one of :data:`LAYOUTS`.
        folder: folder to search, with its direct subfolders; ``None``: no search.
        name: name of the data set; of several files that fit, the one whose name begins with it
            counts.
        given: paths that the user has named, by what they hold; these are not searched for.

    Returns:
        A path for ``interactions`` and ``items``, a path or ``None`` for ``images``.

    Raises:
        InputError: a table is missing, or several files fit.
    """
    found = dict(given)
    for role, patterns in LAYOUTS[layout].files.items():
        if found[role] is None and folder is not None:
            found[role] = _find(layout, folder, name, role, patterns)
        if found[role] is None and role != "images":
            raise InputError(
                f"{folder or layout}: no {role} in the layout of {layout} ({' or '.join(patterns)}); "
                f"name the file with --{role}=FILE."
            )
    return found


def _find(layout: str, folder: Path, name: str, role: str, patterns) -> Path | None:
    for pattern in patterns:
        fitting = [
            path
            for path in _paths_in(folder)
            if fnmatchcase(path.relative_to(folder).as_posix().lower(), pattern)
            and path.is_dir() == (role == "images")
        ]
        chosen = [path for path in fitting if _is_named(path, name)] or fitting
        if len(chosen) > 1:
            names = ", ".join(path.relative_to(folder).as_posix() for path in chosen)
            raise InputError(
                f"{folder}: several files fit the {role} of {layout}: {names}. Choose by --name=NAME, "
                f"the first part of their names, or by --{role}=PATH."
            )
        if chosen:
            return chosen[0]
    return None


def _is_named(path: Path, name: str) -> bool:
    """Whether a file belongs to this data set, as QB_item.csv to QB and Pixel1M.csv to Pixel1M."""
    return path.stem.lower() == name.lower() or path.name.lower().startswith(f"{name.lower()}_")


def _paths_in(folder: Path) -> Iterator[Path]:
    """The contents of the folder, and of its direct subfolders that do not hold pictures."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and "cover" not in path.name.lower():
            yield from sorted(path.iterdir())


def own_option(option: str, layout: str | None) -> str:
    """How a message suggests an option for a user's own tables, which a layout excludes."""
    return f"{option} instead of --layout={layout}" if layout else option


def _ninerec(interactions: Path, items: Path, encoding: str) -> Tables:
    plain = _text(encoding)
    known = columns_of_items(items, plain)
    key, texts = known.names["item"], {"title": known.names["text_en"]}
    n_columns = min(len(first_record(interactions, plain)), 3)
    if not _is_sequences(interactions) and n_columns == 2:
        interactions = _sequences_of(interactions)
    if _is_sequences(interactions):
        return Tables(interactions, *_sequences(encoding), key, texts, known.text)
    pairs = columns_of_pairs(interactions, plain, max(n_columns, 2))
    columns, remark = pairs.names, ""
    if not pairs.has_header:
        first, second, looked_at = items_in_pairs(interactions, pairs.text, items, known.text)
        if abs(first - second) <= looked_at // TIE:
            remark = AMBIGUOUS
        elif first > second:
            user, item = columns["user_column"], columns["item_column"]
            columns = columns | {"user_column": item, "item_column": user}
    return Tables(interactions, columns, pairs.text, key, texts, known.text, remark)


def _microlens(interactions: Path, _items: Path, encoding: str) -> Tables:
    titles = _text(encoding)._replace(lines="titles")
    if _is_sequences(interactions):
        return Tables(interactions, *_sequences(encoding), "item", {}, titles)
    pairs = columns_of_pairs(interactions, _text(encoding), 3)
    return Tables(interactions, pairs.names, pairs.text, "item", {}, titles)


def _pixelrec(interactions: Path, _items: Path, encoding: str) -> Tables:
    columns = {"user_column": "user_id", "item_column": "item_id", "time_column": "timestamp"}
    plain = _text(encoding)
    return Tables(interactions, columns, plain, "item_id", {"categories": "tag"}, plain)


def _is_sequences(path: Path) -> bool:
    return ending_of(path) == ".tsv"


def _sequences(encoding: str) -> tuple[dict[str, str], TextFormat]:
    columns = {"user_column": "user", "item_column": "item"}
    return columns, _text(encoding)._replace(lines="sequences")


def _text(encoding: str) -> TextFormat:
    return TextFormat(encoding=encoding, options=("--encoding",))


def _sequences_of(pairs: Path) -> Path:
    """The file of sequences next to pairs without times; the pairs if there is none."""
    sequences = pairs.with_name(pairs.name.replace("_pair.csv", "_behaviour.tsv"))
    return sequences if sequences.is_file() else pairs


LAYOUTS = {
    "ninerec": Layout(
        {
            "interactions": ("*_pair.csv", "*_behaviour.tsv"),
            "items": ("*_item.csv",),
            "images": ("*_cover",),
        },
        _ninerec,
        PLAIN_TERMS,
    ),
    "microlens": Layout(
        {
            "interactions": ("*_pairs.csv", "*_pairs.tsv"),
            "items": ("*_title_en.csv", "*_titles.csv", "*_title.csv"),
            "images": ("*_covers", "covers"),
        },
        _microlens,
        PLAIN_TERMS,
    ),
    "pixelrec": Layout(
        {
            "interactions": ("*interaction*/*.csv",),
            "items": ("*item*info*/*.csv",),
            "images": ("cover", "covers"),
        },
        _pixelrec,
        PIXELREC_TERMS,
    ),
}
