"""The processed folders of MMM4Rec."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from recbole_mm.prepare.convert import Sequences, read_json_lines, write_features, write_tables
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.counts import counted
from recbole_mm.tools.json_files import read_json
from recbole_mm.tools.torch_files import TorchFileError, read_torch, tensor_fault

SPLITS = ("train", "eval", "test")


def convert_mmm4rec(folder: Path, name: str, output: Path) -> PreparedDataset:
    """A folder in the layout of MMM4Rec, with times.

    Raises:
        InputError: a file is missing or malformed, its splits are not prefixes of the test sequences,
            or the number of rows in a feature file does not match the items.
    """
    sequences = read_sequences(folder)
    tokens = _read_index(folder / "item2id.jsonl")
    if set(tokens) != set(range(1, len(tokens) + 1)):
        raise InputError(
            f"{folder / 'item2id.jsonl'}: its ids should be the numbers 1 to {len(tokens)}, each once, "
            f"as the rows of the feature files."
        )
    users_file = folder / "user2id.jsonl"
    users = _read_index(users_file) if users_file.is_file() else {}
    items_of_events = {item for events in sequences.values() for item, _ in events}
    unknown = sorted(items_of_events - set(tokens), key=str)
    if unknown:
        raise InputError(
            f"{folder / 'item2id.jsonl'}: it lacks {counted(len(unknown), 'item', 'items')} of the sequences, e.g. "
            f"{unknown[:3]}. Is it truncated, or of another data set?"
        )
    rows = [
        (users.get(user, str(user)), tokens[item], float(time))
        for user, events in sequences.items()
        for item, time in events
    ]
    schema = ["user_id", "item_id", "timestamp"]
    interactions = pl.DataFrame(rows, schema=schema, orient="row")
    items = pl.DataFrame({"item_id": list(tokens.values())})
    dataset = write_tables(output, name, interactions, items, folder)
    known = _known_modalities(folder / "item.jsonl")
    for modality, key in (("text", "text"), ("image", "vision")):
        path = folder / f"{modality}_feat.pth"
        if not path.is_file():
            continue
        values = read_tensor(path)
        shift = len(values) - len(tokens)  # ids start at 1; row 0 may be the padding
        if shift not in (0, 1):
            raise InputError(
                f"{path}: {len(values)} rows for the {len(tokens)} items of item2id.jsonl; expected as "
                f"many, or one more for the padding. Does it belong to another data set?"
            )
        row_of = {token: index - 1 + shift for index, token in tokens.items()}
        has = np.ones(len(values), dtype=bool)
        for index, token in tokens.items():
            has[row_of[token]] = known.get(str(index), {}).get(key, "unknown") is not None
        write_features(dataset, modality, path, values, row_of, has)
    dataset.write_card()
    return dataset


def read_sequences(folder: Path) -> Sequences:
    """Each user's ``[item, time]`` events, from prefixes of them.

    Raises:
        InputError: a file is missing or malformed, or the splits are not prefixes of the whole.
    """
    splits = {split: _read_events(folder / f"{split}_seq.jsonl") for split in SPLITS}
    sequences = dict(splits["test"])
    for split, shorter_by in (("train", None), ("eval", 1)):
        for user, events in splits[split]:
            whole = sequences.get(user, [])
            too_short = shorter_by is not None and len(events) != len(whole) - shorter_by
            if events != whole[: len(events)] or too_short:
                raise InputError(
                    f"{folder / split}_seq.jsonl: user {user}'s {len(events)} events are not the start "
                    f"of the {len(whole)} in test_seq.jsonl; leave-one-out cannot give this split."
                )
    return sequences


def _read_events(path: Path) -> list[tuple]:
    lines = read_json_lines(path)
    try:
        return [
            (_id(user), [(_id(item), float(time)) for item, time in events])
            for user, events in lines
        ]
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: expected lines as [user, [[item, time], ...]] ({error})."
        ) from error


def _id(value) -> int | str:
    if not isinstance(value, (int, str)):
        raise TypeError(f"{value!r} is not an id")
    return value


def _read_index(path: Path) -> dict:
    """Id -> token, both of them unique."""
    lines = read_json_lines(path)
    try:
        tokens = {_id(index): str(_id(token)).strip() for token, index in lines}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: expected lines as [token, id] ({error}).") from error
    if "" in tokens.values():
        raise InputError(f"{path}: a token is empty.")
    if len(tokens) < len(lines) or len(set(tokens.values())) < len(lines):
        raise InputError(f"{path}: it has duplicate ids or tokens.")
    return tokens


def _known_modalities(path: Path) -> dict[str, dict]:
    known = read_json(path, InputError) if path.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(item, dict) for item in known.values()):
        raise InputError(f"{path}: expected a JSON object of objects, one for each item.")
    return known


def read_tensor(path: Path) -> np.ndarray:
    """A tensor ``(items, F)`` in a torch file, as float32; nothing in the file is executed."""
    try:
        tensor = read_torch(path)
    except TorchFileError as error:
        raise InputError(
            f"{path}: not a plain tensor ({error}). Anything else in it is not executed; save the "
            f"tensor alone: torch.save(tensor, path)."
        ) from error
    if not torch.is_tensor(tensor) or tensor.ndim != 2:
        raise InputError(f"{path}: holds {type(tensor).__name__}, expected a tensor (items, F).")
    fault = tensor_fault(tensor)
    if fault:
        raise InputError(f"{path}: {fault}, expected a tensor (items, F) of finite numbers.")
    return tensor.float().numpy()
