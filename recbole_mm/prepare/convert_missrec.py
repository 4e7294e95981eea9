"""The processed folders of MISSRec and UniSRec."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recbole_mm.prepare.convert import Sequences, read_tab_lines, write_features, write_tables
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset, read_table
from recbole_mm.tools.counts import counted

FEATURES = {"text": "feat1CLS", "image": "feat3CLS"}
SPLITS = ("train", "valid", "test")


class Row(NamedTuple):
    """An example: the target, and the items before it, cut to the folder's longest history."""

    history: tuple[str, ...]
    target: str


def convert_missrec(folder: Path, name: str, output: Path) -> PreparedDataset:
    """A folder in the layout of MISSRec and UniSRec; without times, it keeps the order of the file.

    Raises:
        InputError: a file is missing or malformed, its rows are not prefixes of one sequence per user,
            or an item is not in the index.
    """
    sequences = read_sequences(folder, name)
    tokens = _read_index(folder / f"{name}.item2index")
    users_file = folder / f"{name}.user2index"
    users = _read_index(users_file) if users_file.is_file() else {}
    unknown = sorted({item for sequence in sequences.values() for item in sequence} - set(tokens))
    if unknown:
        raise InputError(
            f"{folder / name}.item2index: it lacks {counted(len(unknown), 'item', 'items')} of the sequences, e.g. "
            f"{unknown[:3]}. Is it truncated, or of another data set?"
        )
    pairs = [
        (users.get(user, user), tokens[item])
        for user, sequence in sequences.items()
        for item in sequence
    ]
    items = pl.DataFrame({"item_id": list(tokens.values())})
    texts = folder / f"{name}.text"
    if texts.is_file():
        rows = read_tab_lines(texts, 2)[1:]
        text_of = {tokens.get(index, index): "\t".join(text) for index, *text in rows}
        items = items.with_columns(
            title=pl.Series([text_of.get(i) for i in items["item_id"]], dtype=pl.String)
        )
    interactions = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    dataset = write_tables(output, name, interactions, items, folder)
    row_of = {token: int(index) for index, token in tokens.items()}
    for modality, ending in FEATURES.items():
        path = folder / f"{name}.{ending}"
        if path.is_file():
            values = _read_rows(path, len(tokens))
            write_features(dataset, modality, path, values, row_of, values.any(axis=1))
    dataset.write_card()
    return dataset


def read_sequences(folder: Path, name: str) -> Sequences:
    """Each user's items in order, from rows of which each is a prefix.

    Raises:
        InputError: a file is missing or malformed, or leave-one-out of the sequences gives other rows.
    """
    by_user = {split: _rows_by_user(folder, name, split) for split in SPLITS}
    longest = max(
        len(row.history) for users in by_user.values() for rows in users.values() for row in rows
    )
    sequences = {}
    for user, rows in by_user["test"].items():
        if len(rows) != 1:
            raise InputError(
                f"{folder / name}.test.inter: {len(rows)} rows of user {user}; leave-one-out gives every "
                f"user one."
            )
        others = by_user["train"].get(user, []) + by_user["valid"].get(user, [])
        sequences[user] = _lengthen([*rows[0].history, rows[0].target], others, longest, folder)
    _check_splits(folder, sequences, by_user["train"], by_user["valid"], longest)
    return sequences


def _rows_by_user(folder: Path, name: str, split: str) -> dict[str, list[Row]]:
    path = folder / f"{name}.{split}.inter"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {name}.train/valid/test.inter.")
    table = read_table(path, required=("user_id", "item_id"))
    columns = ("user_id", "item_id_list", "item_id")
    if "item_id_list" not in table.columns:
        raise InputError(f"{path}: no column 'item_id_list', it has {table.columns}.")
    users: dict[str, list[Row]] = {}
    for user, history, target in table.select(columns).iter_rows():
        users.setdefault(user, []).append(Row(tuple((history or "").split()), target))
    if not users:
        raise InputError(f"{path}: it has no rows.")
    return users


def _lengthen(sequence: list[str], rows: list[Row], longest: int, folder: Path) -> list[str]:
    """Restore what cutting the histories to the ``longest`` lost at the start of a sequence.

    A row with a history of that length gives the item before another row's history.
    """
    full = [row for row in rows if len(row.history) == longest]
    before = {(*row.history[1:], row.target): row.history[0] for row in full}
    while len(sequence) > longest:
        first = before.get(tuple(sequence[:longest]))
        if first is None:
            break
        sequence = [first, *sequence]
        if len(sequence) > longest + len(rows) + 2:
            raise InputError(
                f"{folder}: a sequence repeats itself for {longest} items: {sequence[:5]} ..."
            )
    return sequence


def _check_splits(folder: Path, sequences: Sequences, train, valid, longest: int) -> None:
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
                    f"{folder}: the {split} rows of user {user} ({len(found[split])}) are not those of "
                    f"leave-one-out ({len(rows)}); this split cannot be kept."
                )
    strangers = (set(train) | set(valid)) - set(sequences)
    if strangers:
        raise InputError(
            f"{folder}: {counted(len(strangers), 'user has', 'users have')} no test row, e.g. {sorted(strangers)[:3]}; "
            f"leave-one-out gives every user one."
        )


def _read_index(path: Path) -> dict[str, str]:
    """Index -> token; the indices count up from 0, each occurring once."""
    lines = read_tab_lines(path, 2)
    tokens = {index.strip(): token.strip() for token, index, *_ in lines}
    if set(tokens) != {str(number) for number in range(len(lines))}:
        raise InputError(
            f"{path}: its second column should hold the numbers 0 to {len(lines) - 1}, each once, as "
            f"the rows of the feature files."
        )
    if "" in tokens.values():
        raise InputError(f"{path}: its first column lacks a token.")
    if len(set(tokens.values())) < len(tokens):
        raise InputError(f"{path}: its first column has duplicate tokens.")
    return tokens


def _read_rows(path: Path, n_items: int) -> np.ndarray:
    values = np.fromfile(path, dtype=np.float32)
    if len(values) == 0 or len(values) % n_items:
        raise InputError(
            f"{path}: {len(values)} numbers for the {n_items} items of the index; expected the same "
            f"width for each. Is it truncated, or of another data set?"
        )
    return values.reshape(n_items, -1)
