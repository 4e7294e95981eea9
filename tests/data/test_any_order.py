"""Whatever the order of the rows on disk, it is the same data set; and examples are what a slow
reference makes of the events."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data import data_preparation

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path, write_item_features

USERS, ITEMS, LONGEST = 4, 5, 3
SETTINGS = {"modalities": ["text"], "MAX_ITEM_LIST_LENGTH": LONGEST, "train_batch_size": 4}
ITEM_COLUMNS = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price"]}

# of each user the items in order; every list is somebody's, so that somebody has three events
histories = st.lists(
    st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=7), min_size=1, max_size=USERS
).map(lambda lists: [[0, 1, 2], *lists])


def events_of(lists) -> list[tuple]:
    """Rows in which no user has two events at a time."""
    return [
        (f"u{user}", f"i{item}", 1000.0 * place + user)
        for user, items in enumerate(lists)
        for place, item in enumerate(items)
    ]


def write(folder, events, items, features):
    """The data set ``any`` with its rows in these orders."""
    shutil.rmtree(folder / "any", ignore_errors=True)
    (folder / "any").mkdir(parents=True)
    rows = [
        "user_id:token\titem_id:token\ttimestamp:float",
        *("\t".join(map(str, e)) for e in events),
    ]
    (folder / "any" / "any.inter").write_text("\n".join(rows) + "\n")
    rows = ["item_id:token\tprice:float", *(f"i{item}\t{item}.5" for item in items)]
    (folder / "any" / "any.item").write_text("\n".join(rows) + "\n")
    values = np.array([[item, 1.0] for item in features], dtype=np.float32)
    write_item_features(
        feature_path(folder / "any", "any", "text"), [f"i{i}" for i in features], values
    )


def load(folder, **more):
    config = load_config("MMM4Rec", "any", (), {"data_path": str(folder), **SETTINGS, **more})
    dataset = MultiModalDataset(config)
    return dataset, data_preparation(config, dataset)


def examples_of(dataset, loader) -> list[tuple]:
    """User, history with times, target and its time, by tokens."""
    users, items = (dataset.field2id_token[field] for field in ("user_id", "item_id"))
    rows = loader._dataset[np.arange(len(loader._dataset))]
    columns = ("user_id", "item_id_list", "timestamp_list", "item_length", "item_id", "timestamp")
    return sorted(
        (
            str(users[user]),
            tuple(str(items[i]) for i in history[:length]),
            tuple(times[:length]),
            str(items[target]),
            time,
        )
        for user, history, times, length, target, time in zip(
            *(rows[column].tolist() for column in columns), strict=True
        )
    )


def facts_of(folder, **more) -> dict:
    """A data set by tokens: examples of each split, features and columns of the items."""
    dataset, loaders = load(folder, **more)
    tokens = [str(token) for token in dataset.field2id_token["item_id"]]
    text, prices = dataset.features["text"], dataset.item_feat
    return {
        "splits": [examples_of(dataset, loader) for loader in loaders],
        "features": dict(zip(tokens, text.values.tolist(), strict=True)),
        "present": dict(zip(tokens, text.present.tolist(), strict=True)),
        "columns": {
            tokens[i]: float(p) for i, p in zip(prices["item_id"], prices["price"], strict=True)
        },
    }


@given(histories, st.randoms(use_true_random=False))
def test_any_order_of_the_rows_on_disk_is_the_same_data_set(tmp_path, lists, rng):
    events, items, features = events_of(lists), list(range(ITEMS)), list(range(ITEMS - 1))
    write(tmp_path, events, items, features)
    expected = facts_of(tmp_path, load_col=ITEM_COLUMNS)

    for rows in (events, items, features):
        rng.shuffle(rows)
    write(tmp_path, events, items, features)

    assert facts_of(tmp_path, load_col=ITEM_COLUMNS) == expected


def reference(lists) -> list[list[tuple]]:
    """Leave-one-out, one event after another."""
    splits: list[list[tuple]] = [[], [], []]
    for user, items in enumerate(lists):
        times = [1000.0 * place + user for place in range(len(items))]
        for target in range(1, len(items)):
            first = max(0, target - LONGEST)
            history = tuple(f"i{item}" for item in items[first:target])
            example = (
                f"u{user}",
                history,
                tuple(times[first:target]),
                f"i{items[target]}",
                times[target],
            )
            left_out = min(2, len(items) - 2)  # one target at least is for training
            to_end = len(items) - 1 - target
            splits[2 - to_end if to_end < left_out else 0].append(example)
    return [sorted(split) for split in splits]


@given(histories)
def test_examples_are_those_of_a_slow_reference(tmp_path, lists):
    write(tmp_path, events_of(lists), range(ITEMS), range(ITEMS))

    dataset, loaders = load(tmp_path)

    assert [examples_of(dataset, loader) for loader in loaders] == reference(lists)


@pytest.mark.parametrize("longest", [1, 2, 3])
@settings(max_examples=6)
@given(histories)
def test_targets_of_windows_are_those_of_single_examples(tmp_path, longest, lists):
    write(tmp_path, events_of([*lists, [0, 1, 2, 3]]), range(ITEMS), range(ITEMS))

    dataset, (train, _, _) = load(
        tmp_path, MAX_ITEM_LIST_LENGTH=longest, loss_positions="all", softmax="full"
    )

    tokens, found = dataset.field2id_token, []
    for batch in train:
        columns = ("user_id", "item_id_list", "_target_list", "item_length")
        for user, history, targets, length in zip(
            *(batch[c].tolist() for c in columns), strict=True
        ):
            for item, target in list(zip(history, targets, strict=True))[:length]:
                names = (str(tokens["item_id"][i]) for i in (item, target))
                found.append((str(tokens["user_id"][user]), *names))
    singles = reference([*lists, [0, 1, 2, 3]])[0]
    assert sorted(found) == sorted((user, past[-1], target) for user, past, _, target, _ in singles)
