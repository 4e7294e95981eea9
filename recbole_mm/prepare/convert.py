"""Shared parts of the conversion of the papers' layouts to data sets with the same splits."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recbole_mm.data.feature_files import (
    feature_path,
    refuse_unusable_values,
    write_item_features,
)
from recbole_mm.prepare.inputs import InputError, require_file, today
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.json_text import parse_json

Sequences = dict[str, list]


def read_tab_lines(path: Path, width: int) -> list[list[str]]:
    """Tab-separated fields of a text file, at least ``width`` per line; blank lines are skipped.

    Raises:
        InputError: the file is missing or not in UTF-8, or a line has fewer fields.
    """
    lines = [line.split("\t") for line in _text(path).split("\n")]
    for number, fields in enumerate(lines, 1):
        if fields != [""] and len(fields) < width:
            raise InputError(f"{path}: line {number} has {len(fields)} fields, expected {width}.")
    return [fields for fields in lines if fields != [""]]


def read_json_lines(path: Path) -> list[Any]:
    """One JSON value per line; blank lines are skipped.

    Raises:
        InputError: the file is missing, or a line is not JSON.
    """
    values = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        try:
            values += [parse_json(line)] if line.strip() else []
        except ValueError as error:
            raise InputError(f"{path}: line {number} is not JSON ({error}).") from error
    return values


def _text(path: Path) -> str:
    require_file(path)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not in UTF-8 ({error}).") from error


def write_tables(
    output, name: str, interactions: pl.DataFrame, items: pl.DataFrame, folder: Path
) -> PreparedDataset:
    """A data set from the folder's interactions and items."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return write_dataset(
        output,
        name,
        interactions,
        items.sort("item_id"),
        core=0,
        repeats="keep",
        pictures=folder,
        sources={str(path): sha256_of_file(path) for path in files},
    )


def write_features(
    dataset: PreparedDataset, modality: str, path: Path, values, row_of: dict[str, int], has
) -> None:
    """Write the features of a modality.

    Args:
        dataset: data set of the items.
        modality: name of the modality.
        path: the authors' file, for the record.
        values: ``(rows, F)`` feature vectors.
        row_of: item token -> its row.
        has: ``(rows,)`` bool, whether the item of a row has the modality.

    Raises:
        FeatureFileError: NaN or infinite values.
    """
    tokens = [token for token in sorted(row_of) if has[row_of[token]]]
    if not tokens:
        print(f"{path}: no item has this modality; skipped")
        return
    info = {
        "encoder": f"as in {path.name}",
        "revision": sha256_of_file(path)[:16],
        "normalization": "unknown",
        "dimension": values.shape[1],
        "date": today(),
        "coverage": len(tokens) / len(row_of),
    }
    values = np.asarray(values)[[row_of[token] for token in tokens]]
    refuse_unusable_values(path, np.array(tokens), values)
    write_item_features(feature_path(dataset.folder, dataset.name, modality), tokens, values, info)
