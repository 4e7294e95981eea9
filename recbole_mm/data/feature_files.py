r"""Item feature files: one per modality, each with the tokens of its own items.

A feature file is an uncompressed ``.npz`` with three arrays, read without pickle:

- ``item_id`` ``(n,)`` unicode, the items that *have* the modality; the others are omitted;
- ``feature`` ``(n, F)`` float16 or float32, row ``r`` belongs to ``item_id[r]``;
- ``info``, optional, a JSON object: encoder, revision, dimension, normalization, date, coverage;
- ``space_<name>``, optional, arrays that put further items into the space of these features, see
  :class:`recbole_mm.data.extractor.Space`.

Only numpy is needed to write and read them; :mod:`recbole_mm.data.features` creates tensors.
"""

import glob
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.hashing import sha256_of_parts
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.names import nearest
from recbole_mm.tools.npz_files import NpzError, NpzFile

ROWS_PER_CHUNK = 65536
LARGEST = 1e15
"""Largest absolute value of a feature: the squares of a row must have a sum in float32."""
SPACE = "space_"


class FeatureFileError(UserError):
    """A feature file that is missing, damaged, or belongs to another data set."""


def feature_path(dataset_dir, dataset: str, modality: str) -> Path:
    """The feature file of a modality: ``<dataset_dir>/<dataset>.<modality>.npz``."""
    return Path(dataset_dir) / f"{dataset}.{modality}.npz"


def find_modalities(dataset_dir, dataset: str) -> list[str]:
    """Modalities with a feature file in the folder: text first, then image, the others by name."""
    files = Path(dataset_dir).glob(f"{glob.escape(dataset)}.*.npz")
    names = {f.name[len(dataset) + 1 : -len(".npz")] for f in files}
    return sorted((n for n in names if "." not in n), key=lambda n: (n != "text", n != "image", n))


def content_of(modality: str, info: Mapping) -> str | None:
    """What the features of a modality are made of, ``text`` or ``image``; ``None``: neither.

    Args:
        modality: its name.
        info: info of its feature file, whose ``input`` is a list of columns or ``picture``.
    """
    if modality in ("text", "image"):
        return modality
    if isinstance(info.get("input"), list):
        return "text"
    return "image" if info.get("input") == "picture" else None


def write_item_features(
    path,
    item_id,
    feature,
    info: dict | None = None,
    space: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write one feature file, whole or not at all.

    Args:
        path: target file, usually ``feature_path(...)``.
        item_id: ``(n,)`` item tokens without duplicates.
        feature: ``(n, F)``, finite; float16 and float32 are kept, other types become float32.
        info: origin of the features (encoder, revision, normalization, ...), JSON-serializable.
        space: arrays of the space of the features, by name.

    Raises:
        FeatureFileError: mismatched shapes, duplicate tokens, NaN or infinite values.
    """
    path = Path(path)
    item_id = np.asarray(item_id, dtype=np.str_)
    feature = np.asarray(feature)
    if feature.dtype not in (np.float16, np.float32):
        feature = feature.astype(np.float32)
    _check_rows(path, item_id, feature)
    refuse_unusable_values(path, item_id, feature)
    with whole_or_not(path) as temporary, open(temporary, "wb") as file:
        arrays: dict = {f"{SPACE}{name}": array for name, array in (space or {}).items()}
        np.savez(file, item_id=item_id, feature=feature, info=json.dumps(info or {}), **arrays)
    return path


def read_feature_tokens(path) -> list[str]:
    """Tokens of the items with features in the file, in its order."""
    return _read_tokens(_open_npz(path)).tolist()


def read_feature_space(path) -> dict[str, np.ndarray]:
    """Arrays of the space of the features by name, ``{}`` if it was not recorded."""
    file = _open_npz(path)
    names = [name for name in file.names if name.startswith(SPACE)]
    return {name[len(SPACE) :]: _read(file, name) for name in names}


def describe_features(path) -> dict:
    """The origin of the features, with a hash of their space for the embedded extractor; equal
    hashes mean equal spaces."""
    info = read_feature_info(path)
    space = read_feature_space(path) if info.get("encoder") == "embedded" else {}
    if not space:
        return info
    parts = [
        part
        for name, array in sorted(space.items())
        for part in (f"{name} {array.dtype} {array.shape}", np.ascontiguousarray(array).tobytes())
    ]
    return {**info, "space": sha256_of_parts(parts)[:16]}


def read_feature_info(path) -> dict:
    """The origin of the features (encoder, revision, ...), ``{}`` if it was not recorded."""
    file = _open_npz(path)
    if "info" not in file.names:
        return {}
    try:
        info = parse_json(str(_read(file, "info")))
    except ValueError:
        info = None
    if not isinstance(info, dict):
        raise FeatureFileError(f"{path}: array 'info' is not a JSON object. Create the file again.")
    return info


def read_feature_rows(
    path, item_tokens, min_coverage: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Read one modality for the items of a data set, in any order on disk.

    The file is memory-mapped: only the rows of these items are read, once.

    Args:
        path: a feature file.
        item_tokens: ``(n_items,)`` tokens in the order of their ids; the first is the padding.
        min_coverage: minimum share of the items (without padding) that must be in the file.

    Returns:
        values ``(n_items, F)``, float16 or float32 as on disk, zero where an item has none (and for
        the padding item 0); present ``(n_items,)`` bool, whether an item has this modality.

    Raises:
        FeatureFileError: the file is missing, truncated or not a feature file; a token is
            duplicate; a value is NaN or infinite; fewer than ``min_coverage`` of the items, or
            none, are in the file.
    """
    path = Path(path)
    file = _open_npz(path)
    tokens = _read_tokens(file)
    stored = _as_float(path, _read(file, "feature", mapped=True))
    _check_rows(path, tokens, stored)

    row_of = {token: row for row, token in enumerate(tokens.tolist())}
    wanted = np.array([row_of.get(str(token), -1) for token in item_tokens], dtype=np.int64)
    wanted[0] = -1
    present = wanted >= 0
    _check_coverage(path, tokens, item_tokens, present, min_coverage)
    values = np.zeros((len(wanted), stored.shape[1]), dtype=stored.dtype)
    ids = np.flatnonzero(present)
    ids = ids[np.argsort(wanted[ids], kind="stable")]  # in file order, for sequential disk reads
    for start in range(0, len(ids), ROWS_PER_CHUNK):
        chunk = ids[start : start + ROWS_PER_CHUNK]
        values[chunk] = stored[wanted[chunk]]
        refuse_unusable_values(path, tokens[wanted[chunk]], values[chunk])
    return values, present


def _check_coverage(path, stored_tokens, item_tokens, present, min_coverage: float) -> None:
    n_items = len(present) - 1
    coverage = present.sum() / max(n_items, 1)
    if not present.any() or coverage < min_coverage:
        raise FeatureFileError(
            f"{path}: it has features for {present.sum()} of the data set's {n_items} items "
            f"({coverage:.1%}), the limit is {min_coverage:.1%}; its tokens look like "
            f"{stored_tokens[:3].tolist()}, the data set's like "
            f"{[str(token) for token in item_tokens[1:4]]}. Does it belong to another data set? "
            f"Extract the features again, or lower 'min_feature_coverage'."
        )


def _open_npz(path) -> NpzFile:
    path = Path(path)
    if not path.is_file():
        raise FeatureFileError(f"{path}: no such feature file. {_instead(path)}")
    try:
        return NpzFile(path)
    except NpzError as error:
        raise FeatureFileError(f"{error}. Create it again.") from error


def _instead(path: Path) -> str:
    """A fix for a feature file that does not exist."""
    dataset, _, modality = path.name.removesuffix(".npz").rpartition(".")
    existing = find_modalities(path.parent, dataset)
    command = shell_line(["recbole-mm", "extract", dataset])
    if not existing:
        return f"Data set {dataset!r} has none; `{command}` makes them from its texts and pictures."
    near = nearest(modality, existing)
    hint = f": did you mean {near[0]!r}?" if near else "."
    return (
        f"The modalities of data set {dataset!r} are {', '.join(existing)}{hint} Name others in "
        f"'modalities', or create the file with `{command}`."
    )


def _read(file: NpzFile, name: str, mapped: bool = False) -> np.ndarray:
    try:
        return file.map(name) if mapped else file.read(name)
    except NpzError as error:
        raise FeatureFileError(
            f"{error}. A feature file contains 'item_id' and 'feature'; write it with "
            f"recbole_mm.data.feature_files.write_item_features."
        ) from error


def _read_tokens(file: NpzFile) -> np.ndarray:
    tokens = _read(file, "item_id")
    try:
        tokens = tokens.astype(np.str_)
        tokens.tolist()  # fails for characters that do not exist
    except (ValueError, TypeError, SystemError) as error:
        raise FeatureFileError(
            f"{file.path}: array 'item_id' is not text ({error}). Create the file again."
        ) from error
    if tokens.ndim != 1:
        raise FeatureFileError(
            f"{file.path}: 'item_id' {tokens.shape} does not match; expected (n,)."
        )
    return tokens


def _as_float(path: Path, array: np.ndarray) -> np.ndarray:
    if array.dtype in (np.float16, np.float32):
        return array
    if array.dtype.kind in "fiu":
        return array.astype(np.float32)
    raise FeatureFileError(f"{path}: 'feature' is {array.dtype}, expected float16 or float32.")


def _check_rows(path: Path, item_id: np.ndarray, feature: np.ndarray) -> None:
    if feature.ndim != 2 or item_id.ndim != 1 or len(item_id) != len(feature):
        raise FeatureFileError(
            f"{path}: 'item_id' {item_id.shape} and 'feature' {feature.shape} do not match; "
            f"expected (n,) and (n, F)."
        )
    if feature.shape[1] == 0 or len(feature) == 0:
        raise FeatureFileError(f"{path}: empty features {feature.shape}; remove this modality.")
    tokens, count = np.unique(item_id, return_counts=True)
    if (count > 1).any():
        raise FeatureFileError(
            f"{path}: {int((count > 1).sum())} duplicate item tokens, "
            f"e.g. {tokens[count > 1][:3].tolist()}; keep one row per item."
        )


def refuse_unusable_values(path, item_id: np.ndarray, feature: np.ndarray) -> None:
    """Refuse NaN, infinite values, and values whose squares float32 cannot hold.

    Args:
        path: file that the values come from.
        item_id: ``(n,)`` item tokens.
        feature: ``(n, F)``.

    Raises:
        FeatureFileError: a value cannot be used; the message names the file and some of the items.
    """
    bad = ~np.isfinite(feature).all(axis=1)
    if feature.dtype != np.float16:  # whose largest number is smaller
        bad |= (np.abs(feature) > LARGEST).any(axis=1)
    if bad.any():
        raise FeatureFileError(
            f"{path}: NaN, infinite or too large values (above {LARGEST:g}) in "
            f"{counted(int(bad.sum()), 'item', 'items')}, e.g. {item_id[bad][:3].tolist()}. Remove "
            f"such items from the file, or scale their features."
        )
