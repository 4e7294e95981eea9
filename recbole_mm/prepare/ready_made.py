"""Vectors that were made elsewhere, as feature files of a data set."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from recbole_mm.data.feature_files import (
    FeatureFileError,
    feature_path,
    read_feature_info,
    write_item_features,
)
from recbole_mm.data.seen_split import TUNING
from recbole_mm.prepare.inputs import InputError, read_lines, require_file, today
from recbole_mm.prepare.modality import Vectors, write_modality
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.npz_files import NpzError, NpzFile


def add_ready_made(dataset: PreparedDataset, modality: str, path, tokens=None) -> None:
    """Write vectors made elsewhere as a modality.

    Args:
        dataset: target data set; vectors of other items are skipped.
        modality: name of the modality: ``text``, ``image`` or any other.
        path: ``.npz`` with ``item_id`` and ``feature``, or ``.npy`` with one row per item.
        tokens: file with the item token of each row of an ``.npy``, one per line; without it the
            rows are those of ``.item``. Rows that are entirely NaN are items without a vector.

    Raises:
        InputError: a file cannot be read, the rows do not match the tokens, a token is a duplicate,
            or none is an item of the data set.
    """
    path = Path(path)
    items = dataset.items["item_id"].to_list()
    arrays = read_arrays(path, ("item_id", "feature"))
    if len(arrays) == 2:
        names, vectors = as_tokens(arrays["item_id"]), arrays["feature"]
    else:
        names, vectors = _names_of_rows(dataset, path, tokens), arrays["array"]
    source = tokens or (path if len(arrays) == 2 else dataset.path("item"))
    if vectors.ndim != 2 or len(vectors) != len(names):
        raise InputError(
            f"{path}: shape {vectors.shape} for {len(names)} item tokens of {source}; expected one row "
            f"per token (name a file with the token of each row with --tokens=FILE)."
        )
    if vectors.dtype.kind not in "fiu":
        raise InputError(f"{path}: it holds {vectors.dtype}, expected real numbers.")
    rows, places = _match(items, names, vectors, path, source)
    facts = {
        "encoder": path.stem,
        "revision": sha256_of_file(path)[:16],
        "normalization": "unknown",
    }
    if len(arrays) == 2:
        facts |= _record_of_tuning(path)
    write_modality(dataset, modality, Vectors(rows, np.asarray(vectors[places]), [], facts))


def _record_of_tuning(path: Path) -> dict:
    """What a feature file records about the split that its encoder has seen."""
    try:
        info = read_feature_info(path)
    except FeatureFileError:  # another tool's array of the same name
        return {}
    return {TUNING: info[TUNING]} if TUNING in info else {}


def _names_of_rows(dataset: PreparedDataset, path: Path, tokens) -> list[str]:
    if tokens:
        return read_lines(tokens)
    items = dataset.items["item_id"].to_list()
    print(
        f"{path}: without --tokens its rows are taken to be the items in the order of "
        f"{dataset.path('item')}: {', '.join(items[:3])}, ...",
        flush=True,
    )
    return items


def _match(items: list[str], names: list[str], vectors, path, source):
    """Rows of the data set's items that have a vector, and the rows of these vectors."""
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise InputError(
            f"{source}: {len(names) - len(set(names))} duplicate tokens, e.g. {repeated!r}; keep one "
            f"row per item."
        )
    row_of = {name: row for row, name in enumerate(names)}
    present = [(row, row_of[item]) for row, item in enumerate(items) if item in row_of]
    present = [(row, place) for row, place in present if not np.isnan(vectors[place]).all()]
    if not present:
        raise InputError(
            f"{path}: it has none of the {len(items)} items of the data set; its tokens look like "
            f"{names[:3]}, the data set's like {items[:3]}."
        )
    return np.array(present).T


def write_vectors(dataset: PreparedDataset, path) -> None:
    """Write the text and image features of a data set from a file such as ``clip_vit_b32.npz``.

    The file has the arrays ``item``, ``<modality>`` and ``has_<modality>``.

    Raises:
        InputError: the file cannot be read, lacks an array, or has no vector of any item.
    """
    items = dataset.items["item_id"]
    wanted = set(items)
    for modality in ("text", "image"):
        arrays = read_arrays(path, ("item", modality, f"has_{modality}"))
        if "array" in arrays:
            raise InputError(
                f"{path}: a single array, expected an .npz; add it with recbole-mm extract --modality "
                f"NAME=FILE."
            )
        _check_vectors(path, modality, arrays)
        tokens = np.array(as_tokens(arrays["item"]))
        known = np.array([token in wanted for token in tokens.tolist()])
        rows = np.flatnonzero(arrays[f"has_{modality}"].astype(bool) & known)
        rows = rows[np.argsort(tokens[rows])]
        if len(rows) == 0:
            raise InputError(f"{path}: no '{modality}' vector for any item of the data set.")
        vectors = arrays[modality][rows]
        info = {
            "encoder": Path(path).stem,
            "revision": sha256_of_file(path)[:16],
            "dimension": vectors.shape[1],
            "normalization": "none",
            "date": today(),
            "coverage": len(rows) / len(items),
        }
        write_item_features(
            feature_path(dataset.folder, dataset.name, modality), tokens[rows], vectors, info
        )
    dataset.write_card()


def _check_vectors(path, modality: str, arrays: dict[str, np.ndarray]) -> None:
    item, vectors, has = (arrays[name] for name in ("item", modality, f"has_{modality}"))
    fit = item.ndim == has.ndim == 1 and vectors.ndim == 2 and len(item) == len(has) == len(vectors)
    if not fit or vectors.dtype.kind not in "fiu" or has.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: 'item' {item.shape}, '{modality}' {vectors.shape} {vectors.dtype} and "
            f"'has_{modality}' {has.shape} {has.dtype}; expected (n,), (n, F) real numbers and (n,) bool."
        )


def as_tokens(names: np.ndarray) -> list[str]:
    """Item tokens as text without surrounding blanks; whole numbers and bytes become text too."""
    if names.dtype.kind == "S":
        names = np.char.decode(names, "utf-8", "replace")
    return [str(name).strip() for name in names.ravel().tolist()]


def read_arrays(path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The named arrays of an ``.npz``, or the memory-mapped array of an ``.npy`` as ``array``.

    Raises:
        InputError: the file is neither, lacks an array, or holds Python objects (which are not
            read).
    """
    path = Path(path)
    require_file(path)
    try:
        if not zipfile.is_zipfile(path):
            return {"array": np.load(path, allow_pickle=False, mmap_mode="r")}
        file = NpzFile(path)
        absent = sorted(set(names) - set(file.names))
        if absent:
            raise InputError(f"{path}: no array {absent}, it has {list(file.names)}.")
        return {name: file.read(name) for name in names}
    except NpzError as error:
        raise InputError(f"{error}.") from error
    except InputError:
        raise
    except Exception as error:  # numpy raises many types for a damaged file
        reason = str(error)
        if "Object arrays" in reason:  # numpy's
            reason = "it holds Python objects, which are not read: save them with .astype(str)"
        raise InputError(f"{path}: not a readable .npy or .npz file ({reason}).") from error
