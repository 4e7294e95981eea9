"""Long work on many items, in chunks that stay on disk: an interrupted run resumes with the next."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.modality import Vectors
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.files import whole_or_not, write_json
from recbole_mm.tools.hashing import sha256_of_parts
from recbole_mm.tools.json_files import JsonError, read_json
from recbole_mm.tools.json_text import parse_json

BATCHES_PER_CHUNK = 16


class Encoded(NamedTuple):
    """The result of encoding one or several batches.

    Attributes:
        rows: rows in ``.item`` of the items that have a vector.
        values: ``(n, F)`` vectors of these items.
        problems: row of each item that could not be read, and why.
        cut: number of texts that were longer than the encoder's limit.
    """

    rows: list[int]
    values: np.ndarray
    problems: list[tuple[int, str]]
    cut: int = 0


def in_chunks(
    dataset: PreparedDataset,
    modality: str,
    plan: dict,
    part: list[tuple[int, Any]],
    batch_size: int,
    encode: Callable[[list[tuple[int, Any]]], Encoded],
) -> Vectors:
    """Encode ``(place in .item, text or path)`` pairs chunk by chunk.

    Args:
        dataset: data set whose folder gets a hidden folder of chunks, see :func:`discard_chunks`.
        modality: name of the modality.
        plan: the encoder and its settings; chunks of another plan, or of other input, are discarded.
        part: at least one pair.
        batch_size: pairs that are encoded together.
        encode: function that encodes one batch.

    Raises:
        InputError: no pair has a vector.
    """
    folder = _chunk_folder(dataset, modality)
    plan = {**plan, "batch_size": batch_size, "input_hash": _hash_of(dataset, part)}
    if folder.is_dir() and _plan_in(folder) != plan:
        print(f"{folder}: made with another encoder, setting or input; encoding again")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "plan.json", plan)
    size = batch_size * BATCHES_PER_CHUNK
    starts = range(0, len(part), size)
    done = sum(_path(folder, start).is_file() for start in starts)
    if done:
        print(f"{dataset.name}: {modality} resumes, {done} of {len(starts)} chunks exist")
    chunks = []
    for start in tqdm(starts, f"{dataset.name} {modality}", unit="chunk", disable=len(starts) < 4):
        chunk = _read(_path(folder, start))
        if chunk is None:
            chunk = in_batches(part[start : start + size], batch_size, encode)
            _write(_path(folder, start), chunk)
        chunks.append(chunk)
    whole = _joined(chunks)
    if not len(whole.rows):
        raise InputError(
            f"{dataset.path('item')}: {modality}: none of {len(part):,} items could be used; the "
            f"first: {whole.problems[0][1] if whole.problems else 'it is empty'}"
        )
    del plan["input_hash"]
    facts = {**plan, "cut": whole.cut} if isinstance(part[0][1], str) else plan
    return Vectors(np.array(whole.rows), whole.values, whole.problems, facts)


def in_batches(
    part: list[tuple[int, Any]],
    batch_size: int,
    encode: Callable[[list[tuple[int, Any]]], Encoded],
) -> Encoded:
    """Encode ``(row, text or path)`` pairs, the longest texts first, to reduce padding.

    Args:
        part: pairs with ascending rows.
        batch_size: pairs that are encoded together.
        encode: function that encodes one batch.

    Returns:
        results in the order of ``part``.
    """
    by_length = sorted(part, key=lambda pair: -len(pair[1]) if isinstance(pair[1], str) else 0)
    starts = range(0, len(part), batch_size)
    found = _joined([encode(by_length[at : at + batch_size]) for at in starts])
    order = np.argsort(found.rows, kind="stable")
    rows = [found.rows[place] for place in order]
    values = found.values[order] if rows else found.values
    return Encoded(rows, values, sorted(found.problems), found.cut)


def discard_chunks(dataset: PreparedDataset, modality: str) -> None:
    """Remove the chunks; their vectors are in the feature file."""
    shutil.rmtree(_chunk_folder(dataset, modality), ignore_errors=True)


def _chunk_folder(dataset: PreparedDataset, modality: str) -> Path:
    return dataset.folder / f".{dataset.name}.{modality}.partial"


def _path(folder: Path, start: int) -> Path:
    return folder / f"{start:09d}.npz"


def _joined(parts: list[Encoded]) -> Encoded:
    vectors = [part.values for part in parts if len(part.rows)]
    return Encoded(
        [row for part in parts for row in part.rows],
        np.concatenate(vectors) if vectors else np.zeros((0, 0), np.float32),
        [problem for part in parts for problem in part.problems],
        sum(part.cut for part in parts),
    )


def _write(path: Path, chunk: Encoded) -> None:
    rest = json.dumps([chunk.rows, chunk.problems, chunk.cut])
    with whole_or_not(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, value=chunk.values, rest=rest, seal=_seal(chunk.values, rest))


def _read(path: Path) -> Encoded | None:
    """A chunk that exists and is not damaged."""
    try:
        with np.load(path, allow_pickle=False) as chunk:
            values, rest = chunk["value"], str(chunk["rest"])
            if str(chunk["seal"]) != _seal(values, rest):
                raise ValueError("its content has changed since it was written")
        rows, problems, cut = parse_json(rest)
        return Encoded(rows, values, [(row, why) for row, why in problems], cut)
    except FileNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 numpy and zipfile raise many types
        print(f"{path}: damaged ({error}); encoding again")
        return None


def _seal(values: np.ndarray, rest: str) -> str:
    return sha256_of_parts([f"{values.dtype} {values.shape} {rest}", values.tobytes()])


def _plan_in(folder: Path):
    try:
        return read_json(folder / "plan.json")
    except JsonError:
        return None


def _hash_of(dataset: PreparedDataset, part: list[tuple[int, Any]]) -> str:
    """Hash of the texts, or of the names, sizes and times of the pictures."""

    def state(value) -> str:
        if not isinstance(value, Path):
            return value
        stat = value.stat() if value.is_file() else None
        return f"{value} {stat and (stat.st_size, stat.st_mtime_ns)}"

    items = dataset.items["item_id"]
    return sha256_of_parts(f"{items[row]}\0{state(value)}\0" for row, value in part)
