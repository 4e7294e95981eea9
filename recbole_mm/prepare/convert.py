"""The processed folders of the papers' authors as data sets with the same splits."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import torch

from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.prepare.inputs import InputError, read_json, today
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.hashing import sha256_of_file

FEATURES = {"text": "feat1CLS", "image": "feat3CLS"}


def convert_missrec(folder: Path, name: str, output: Path) -> PreparedDataset:
    """A folder in the layout of MISSRec and UniSRec; it has no times, the order is the file's.

    Raises:
        InputError: a file is missing, or its rows are no prefixes of one sequence per user.
    """
    rows = {split: _read_lists(folder, name, split) for split in ("train", "valid", "test")}
    sequences = {}
    for user, [(history, target)] in _by_user(rows["test"]).items():
        sequences[user] = [*history, target]
    longest = max(len(history) for split in rows.values() for _, history, _ in split)
    train, valid = _by_user(rows["train"]), _by_user(rows["valid"])
    for user, sequence in sequences.items():
        sequences[user] = _lengthen(sequence, train.get(user, []) + valid.get(user, []), longest)
    _check_splits(folder, sequences, train, valid, longest)

    tokens = _read_index(folder / f"{name}.item2index")
    users = _read_index(folder / f"{name}.user2index", required=False)
    pairs = [
        (users.get(user, user), tokens.get(item, item))
        for user, sequence in sequences.items()
        for item in sequence
    ]
    items = pl.DataFrame({"item_id": list(tokens.values())})
    texts = folder / f"{name}.text"
    if texts.is_file():
        lines = (line.split("\t", 1) for line in texts.read_text(encoding="utf-8").splitlines()[1:])
        text_of = {tokens.get(index, index): text for index, text in lines}
        items = items.with_columns(title=pl.Series([text_of.get(i) for i in items["item_id"]]))
    interactions = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    dataset = _write(output, name, interactions, items, folder)
    for modality, ending in FEATURES.items():
        path = folder / f"{name}.{ending}"
        if not path.is_file():
            continue
        values = np.fromfile(path, dtype=np.float32)
        if len(values) % len(tokens):
            raise InputError(
                f"{path}: {len(values)} numbers for the {len(tokens)} items of {name}.item2index; "
                f"expected the same width for each. Is it cut, or of another data set?"
            )
        values = values.reshape(len(tokens), -1)
        rows_of = {token: int(index) for index, token in tokens.items()}
        _write_features(dataset, modality, path, values, rows_of, values.any(axis=1))
    dataset.write_card()
    return dataset


def convert_mmm4rec(folder: Path, name: str, output: Path) -> PreparedDataset:
    """A folder in the layout of MMM4Rec, with times.

    Raises:
        InputError: a file is missing, its splits are no prefixes of the test sequences, or a
            feature file has another number of rows than there are items.
    """
    splits = {split: _read_json_lines(folder / f"{split}_seq.jsonl") for split in _SEQUENCES}
    sequences = {user: events for user, events in splits["test"]}
    for split, cut in (("train", None), ("eval", -1)):
        for user, events in splits[split]:
            whole = sequences.get(user, [])
            if events != whole[: len(events)] or (cut and len(events) != len(whole) + cut):
                raise InputError(
                    f"{folder / split}_seq.jsonl: user {user}'s {len(events)} events are not the "
                    f"start of the {len(whole)} in test_seq.jsonl; leave-one-out cannot give this "
                    f"split."
                )
    tokens = {index: token for token, index in _read_json_lines(folder / "item2id.jsonl")}
    users = {index: token for token, index in _read_json_lines(folder / "user2id.jsonl")}
    rows = [
        (users.get(user, str(user)), tokens[item], float(time))
        for user, events in sequences.items()
        for item, time in events
    ]
    schema = ["user_id", "item_id", "timestamp"]
    interactions = pl.DataFrame(rows, schema=schema, orient="row")
    items = pl.DataFrame({"item_id": list(tokens.values())})
    dataset = _write(output, name, interactions, items, folder)
    known = read_json(folder / "item.jsonl") if (folder / "item.jsonl").is_file() else {}
    for modality, key in (("text", "text"), ("image", "vision")):
        path = folder / f"{modality}_feat.pth"
        if not path.is_file():
            continue
        values = _read_tensor(path)
        shift = len(values) - len(tokens)  # ids start at 1; row 0 may be the padding
        if shift not in (0, 1):
            raise InputError(
                f"{path}: {len(values)} rows for the {len(tokens)} items of item2id.jsonl; "
                f"expected as many, or one more for the padding. Is it of another data set?"
            )
        rows_of = {token: index - 1 + shift for index, token in tokens.items()}
        has = np.ones(len(values), dtype=bool)
        for index, token in tokens.items():
            has[rows_of[token]] = known.get(str(index), {}).get(key, "unknown") is not None
        _write_features(dataset, modality, path, values, rows_of, has)
    dataset.write_card()
    return dataset


_SEQUENCES = ("train", "eval", "test")


def _read_lists(folder: Path, name: str, split: str) -> list[tuple[str, tuple[str, ...], str]]:
    path = folder / f"{name}.{split}.inter"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {name}.train/valid/test.inter.")
    table = pl.read_csv(path, separator="\t", infer_schema=False)
    table = table.rename({column: column.partition(":")[0] for column in table.columns})
    rows = table.select("user_id", "item_id_list", "item_id").rows()
    return [(user, tuple((history or "").split()), target) for user, history, target in rows]


def _by_user(rows) -> dict:
    users = {}
    for user, history, target in rows:
        users.setdefault(user, []).append((history, target))
    return users


def _lengthen(sequence: list[str], rows: list, longest: int) -> list[str]:
    """Put back what the lists, cut to the ``longest``, lost at the start of a sequence.

    A row with a list of that length gives the item that came before another row's list.
    """
    full = [row for row in rows if len(row[0]) == longest]
    before = {(*history[1:], target): history[0] for history, target in full}
    while len(sequence) > longest:
        first = before.get(tuple(sequence[:longest]))
        if first is None:
            break
        sequence = [first, *sequence]
        if len(sequence) > longest + len(rows) + 2:
            raise InputError(f"a sequence repeats itself for {longest} items: {sequence[:5]} ...")
    return sequence


def _check_splits(folder, sequences, train, valid, longest) -> None:
    def rows_of(sequence, ends):
        return sorted((tuple(sequence[:end][-longest:]), sequence[end]) for end in ends)

    for user, sequence in sequences.items():
        expected = {
            "train": rows_of(sequence, range(1, len(sequence) - 2)),
            "valid": rows_of(sequence, [len(sequence) - 2]),
        }
        found = {"train": train.get(user, []), "valid": valid.get(user, [])}
        for split, rows in expected.items():
            if sorted(found[split]) != rows:
                raise InputError(
                    f"{folder}: the {split} rows of user {user} ({len(found[split])}) are not "
                    f"those of leave-one-out ({len(rows)}); this split cannot be kept."
                )
    strangers = (set(train) | set(valid)) - set(sequences)
    if strangers:
        raise InputError(
            f"{folder}: {len(strangers)} users have no test row, e.g. {sorted(strangers)[:3]}; "
            f"leave-one-out gives every user one."
        )


def _read_index(path: Path, required: bool = True) -> dict[str, str]:
    """Index -> token."""
    if not path.is_file():
        if required:
            raise InputError(f"{path}: no such file; it names the items of the feature rows.")
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {index: token for token, index in (line.split("\t")[:2] for line in lines if line)}


def _read_json_lines(path: Path) -> list:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _read_tensor(path: Path) -> np.ndarray:
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what it likes; the reason is in its text
        raise InputError(
            f"{path}: no plain tensor ({type(error).__name__}). Anything else in it is not "
            f"executed; save the tensor alone: torch.save(tensor, path)."
        ) from error
    if not torch.is_tensor(tensor) or tensor.ndim != 2:
        raise InputError(f"{path}: holds {type(tensor).__name__}, expected a tensor (items, F).")
    return tensor.float().numpy()


def _write(output, name, interactions, items, folder) -> PreparedDataset:
    items = items.sort("item_id")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return write_dataset(
        output,
        name,
        interactions,
        items,
        core=0,
        repeats="keep",
        pictures=folder,
        sources={str(path): sha256_of_file(path) for path in files},
    )


def _write_features(dataset, modality, path, values, row_of, has) -> None:
    tokens = [token for token in sorted(row_of) if has[row_of[token]]]
    if not tokens:
        print(f"{path}: no item has it, left out")
        return
    info = {
        "encoder": f"as in {path.name}",
        "revision": sha256_of_file(path)[:16],
        "normalization": "unknown",
        "dimension": values.shape[1],
        "date": today(),
        "coverage": len(tokens) / len(row_of),
    }
    values = values[[row_of[token] for token in tokens]]
    write_item_features(feature_path(dataset.folder, dataset.name, modality), tokens, values, info)
