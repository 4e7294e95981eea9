"""Vectors that were made elsewhere, as feature files of a data set."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl

from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.prepare.extract import finish_modality
from recbole_mm.prepare.inputs import InputError, today
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.hashing import sha256_of_file


def add_ready_made(dataset: PreparedDataset, modality: str, path, tokens=None) -> None:
    """Write vectors made elsewhere as a modality.

    Args:
        dataset: the data set; vectors of other items are left out.
        modality: its name, ``text``, ``image`` or any other.
        path: an ``.npz`` with ``item_id`` and ``feature``, or an ``.npy`` with one row per item.
        tokens: for ``.npy``: a file with the item token of each row, one per line; without it the
            rows are those of ``.item``. Rows that are NaN throughout are items without it.

    Raises:
        InputError: the file cannot be read, the rows do not match the tokens, a token stands there
            twice, or none is an item of the data set.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (--modality {modality}=FILE).")
    items = dataset.items["item_id"].to_list()
    content = load_arrays(path)
    if isinstance(content, np.lib.npyio.NpzFile):
        absent = {"item_id", "feature"} - set(content.files)
        if absent:
            raise InputError(f"{path}: no array {sorted(absent)}, it has {content.files}.")
        names, vectors = content["item_id"].tolist(), content["feature"]
    else:
        names = Path(tokens).read_text(encoding="utf-8").splitlines() if tokens else items
        vectors = content
        if not tokens:
            print(
                f"{path}: without --tokens its rows are taken to be the items in the order of "
                f"{dataset.path('item')}: {', '.join(map(str, items[:3]))}, ...",
                flush=True,
            )
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise InputError(
            f"{path}: shape {vectors.shape} for {len(names)} item tokens; expected one row per "
            f"token of {tokens or dataset.path('item')} (name them with --tokens=FILE)."
        )
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(
            f"{tokens or path}: {len(names) - len(set(names))} tokens stand there more than once, "
            f"e.g. {repeated!r}; keep one row per item."
        )
    row_of = {name: row for row, name in enumerate(names)}
    present = [(row, row_of[item]) for row, item in enumerate(items) if item in row_of]
    present = [(row, its) for row, its in present if not np.isnan(vectors[its]).all()]
    if not present:
        raise InputError(
            f"{path}: it has none of the {len(items)} items of {dataset.name}; its tokens look "
            f"like {names[:3]}, the data set's like {items[:3]}."
        )
    rows, its = np.array(present).T
    facts = {
        "encoder": path.stem,
        "revision": sha256_of_file(path)[:16],
        "normalization": "unknown",
    }
    finish_modality(dataset, modality, rows, np.asarray(vectors[its]), [], facts)


def read_vectors(path, modality: str, item_ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ready-made vectors of one modality for the items that have one: tokens and rows.

    The file has the arrays ``item``, ``<modality>`` and ``has_<modality>``, as clip_vit_b32.npz.
    """
    archive = load_arrays(path)
    if isinstance(archive, np.ndarray):
        raise InputError(f"{path}: one array; expected an .npz (extract_features.py takes this).")
    with archive:
        absent = {"item", modality, f"has_{modality}"} - set(archive.files)
        if absent:
            raise InputError(f"{path}: no array {sorted(absent)}, it has {archive.files}.")
        token, vector, has = archive["item"], archive[modality], archive[f"has_{modality}"]
    rows = np.flatnonzero(has & np.isin(token, item_ids.to_numpy().astype(np.str_)))
    rows = rows[np.argsort(token[rows])]
    if len(rows) == 0:
        raise InputError(f"{path}: no '{modality}' vector for any item of the data set.")
    return token[rows], vector[rows]


def write_vectors(dataset: PreparedDataset, path) -> None:
    """Write the text and image features of a data set from a ready-made file."""
    items = dataset.items["item_id"]
    for modality in ("text", "image"):
        token, vector = read_vectors(path, modality, items)
        info = {
            "encoder": Path(path).stem,
            "revision": sha256_of_file(path)[:16],
            "dimension": vector.shape[1],
            "normalization": "none",
            "date": today(),
            "coverage": len(token) / len(items),
        }
        write_item_features(
            feature_path(dataset.folder, dataset.name, modality), token, vector, info
        )
    dataset.write_card()


def load_arrays(path):
    """The array of an ``.npy`` file (mapped), or the arrays of an ``.npz``.

    Raises:
        InputError: it is neither, or holds Python objects, which are not read.
    """
    mode = "r" if str(path).endswith(".npy") else None
    try:
        return np.load(path, allow_pickle=False, mmap_mode=mode)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: no readable .npy or .npz file ({error}).") from error
