from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.data.feature_files import FeatureFileError, feature_path, write_item_features
from recbole_mm.data.prefixes import take_rows
from recbole_mm.tools.errors import UserError

BASE = 1_700_000_000


def write_set(folder, rows, columns="user_id:token\titem_id:token\ttimestamp:float", **features):
    """A data set 'small' of (user, item, time) rows, with one-column features by modality."""
    folder = folder / "small"
    folder.mkdir(parents=True)
    lines = [columns, *("\t".join(str(v) for v in row) for row in rows)]
    (folder / "small.inter").write_text("\n".join(lines) + "\n")
    for modality, tokens in features.items():
        values = np.arange(1, len(tokens) + 1, dtype=np.float32)[:, None]
        write_item_features(feature_path(folder, "small", modality), tokens, values)
    return folder.parent


def config(data_path, model="MMM4Rec", **overrides):
    return load_config(model, "small", (), {"data_path": str(data_path), **overrides}, None, {})


ROWS = [
    ("u", "a", BASE + 1),
    ("v", "b", BASE + 5),
    ("u", "b", BASE + 2),
    ("u", "c", BASE + 2),
    ("v", "a", BASE + 5),
    ("u", "d", BASE + 130),
    ("v", "c", BASE + 5),
    ("w", "a", BASE),
]


def split(data_path, **overrides):
    settings = config(data_path, **overrides)
    dataset = MultiModalDataset(settings)
    return data_preparation(settings, dataset), dataset


def histories(loader, dataset):
    tokens = dataset.field2id_token["item_id"]
    users = dataset.field2id_token["user_id"]
    rows = loader._dataset[np.arange(len(loader._dataset))]
    return {
        (users[u], tokens[target]): [tokens[i] for i in seq[:n]]
        for u, target, seq, n in zip(
            rows["user_id"],
            rows["item_id"],
            rows["item_id_list"].tolist(),
            rows["item_length"],
            strict=True,
        )
    }


def test_events_of_the_same_time_keep_the_order_of_the_file(tmp_path):
    (train, valid, test), dataset = split(write_set(tmp_path, ROWS, text=["a", "b"]))
    assert histories(test, dataset) == {
        ("u", "d"): ["a", "b", "c"],
        ("v", "c"): ["b", "a"],
    }
    assert histories(valid, dataset) == {("u", "c"): ["a", "b"]}
    assert histories(train, dataset) == {("u", "b"): ["a"], ("v", "a"): ["b"]}


def test_times_stay_exact_and_the_batch_holds_the_targets_time(tmp_path):
    (_, _, test), _ = split(write_set(tmp_path, ROWS, text=["a"]))
    rows = test._dataset[np.arange(2)]
    row = int((rows["item_length"] == 3).nonzero())
    assert rows["timestamp_list"].dtype == torch.float64
    assert rows["timestamp_list"][row, :3].tolist() == [BASE + 1, BASE + 2, BASE + 2]
    assert rows["timestamp"][row].item() == BASE + 130


def test_normalisation_of_other_fields_leaves_time_alone(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a"])
    settings = config(path, normalize_all=True)
    assert MultiModalDataset(settings).inter_feat["timestamp"].max() == BASE + 130


def random_rows(n_users=30, n_items=17, n=400, seed=0):
    random = np.random.default_rng(seed)
    times = random.permutation(n) * 1000  # distinct, so that RecBole's order is defined as well
    return [(f"u{random.integers(n_users)}", f"i{random.integers(n_items)}", int(t)) for t in times]


def test_batches_equal_those_of_recbole(tmp_path):
    path = write_set(tmp_path, random_rows())
    settings = config(path, model="SASRec", modalities=[], MAX_ITEM_LIST_LENGTH=6)
    ours = data_preparation(settings, MultiModalDataset(settings))
    theirs = data_preparation(settings, SequentialDataset(settings))
    for our_loader, their_loader in zip(ours, theirs, strict=True):
        assert len(our_loader._dataset) == len(their_loader._dataset)
        for our_batch, their_batch in zip(our_loader, their_loader, strict=True):
            if isinstance(our_batch, tuple):
                our_batch, their_batch = our_batch[0], their_batch[0]
            for field in ("user_id", "item_id", "item_id_list", "item_length"):
                assert torch.equal(our_batch[field], their_batch[field]), field
            assert torch.equal(our_batch["timestamp_list"].float(), their_batch["timestamp_list"])


def test_interactions_of_a_split_as_a_matrix_equal_those_of_recbole(tmp_path):
    path = write_set(tmp_path, random_rows())
    settings = config(path, model="SASRec", modalities=[])
    ours, theirs = (
        data_preparation(settings, dataset_class(settings))[0]._dataset.inter_matrix().toarray()
        for dataset_class in (MultiModalDataset, SequentialDataset)
    )
    assert (ours > 0).tolist() == (theirs > 0).tolist()


@pytest.mark.parametrize("mode", ["valid_and_test", "valid_only", "test_only"])
def test_leave_one_out_gives_the_rows_of_recbole_in_its_order(tmp_path, mode):
    dataset = MultiModalDataset(config(write_set(tmp_path, random_rows())))
    dataset._change_feat_format()
    dataset.shuffle()
    ours = dataset.leave_one_out(dataset.uid_field, mode)
    theirs = SequentialDataset.leave_one_out(dataset, dataset.uid_field, mode)
    for part, expected in zip(ours, theirs, strict=True):
        for field in expected.inter_feat:
            assert torch.equal(part.inter_feat[field], expected.inter_feat[field])
    with pytest.raises(DatasetError, match="LS must be one of.*'last'"):
        dataset.leave_one_out(dataset.uid_field, "last")


def windows(train):
    """(user, events read, targets) of every training example, without padding."""
    rows = train[np.arange(len(train))]
    return [
        (user, seq[:n], targets[:n])
        for user, seq, targets, n in zip(
            rows["user_id"].tolist(),
            rows["item_id_list"].tolist(),
            rows[TARGET_LIST].tolist(),
            rows["item_length"].tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize("settings", [{}, {"held_out_items": 0.2}], ids=["", "held-out"])
def test_windows_have_the_targets_of_the_prefixes_each_once(tmp_path, settings):
    path = write_set(tmp_path, random_rows())
    prefixes, _ = split(path, MAX_ITEM_LIST_LENGTH=4, **settings)
    loaders, _ = split(path, MAX_ITEM_LIST_LENGTH=4, loss_positions="all", **settings)
    expected = prefixes[0]._dataset.inter_feat
    found = windows(loaders[0]._dataset)
    assert len(found) == len(loaders[0]._dataset) < len(expected)
    assert max(len(targets) for _, _, targets in found) == 4
    pairs = [(user, target) for user, _, targets in found for target in targets]
    assert sorted(pairs) == sorted(
        zip(expected["user_id"].tolist(), expected["item_id"].tolist(), strict=True)
    )
    for _, seq, targets in found:
        assert seq[1:] == targets[:-1]
    for ours, theirs in zip(loaders[1:], prefixes[1:], strict=True):  # evaluation stays as it is
        assert torch.equal(
            ours._dataset.inter_feat["item_id"], theirs._dataset.inter_feat["item_id"]
        )
        assert TARGET_LIST not in ours._dataset[np.arange(3)]


def test_what_follows_an_event_of_a_window_is_its_target(tmp_path):
    once = {"split": {"LS": "valid_only"}, "order": "TO", "group_by": "user", "mode": "full"}
    settings = config(write_set(tmp_path, ROWS), loss_positions="all", eval_args=once)
    dataset = MultiModalDataset(settings)
    train, _, _ = dataset.build()
    tokens = dataset.field2id_token["item_id"]
    shown = {
        "".join(tokens[i] for i in seq): "".join(tokens[i] for i in targets)
        for _, seq, targets in windows(train)
    }
    assert shown == {"ab": "bc", "b": "a"}
    with pytest.raises(UserError, match="'loss_positions' is 'first'; it must be one of last, all"):
        split(tmp_path, loss_positions="first")


DAYS = [
    ("u", item, BASE + day) for day, items in enumerate(["abc", "d", "ef", "gh"]) for item in items
]


@pytest.mark.parametrize("positions", ["last", "all"])
def test_ties_change_places_in_training_and_nowhere_else(tmp_path, positions):
    path = write_set(tmp_path, DAYS)
    (train, *others), dataset = split(path, loss_positions=positions, shuffle_ties=True)
    (_, *plain), _ = split(path, loss_positions=positions)
    tokens = dataset.field2id_token["item_id"]
    torch.manual_seed(0)

    seen = set()
    for _ in range(200):
        rows = train._dataset[np.arange(len(train._dataset))]
        n = rows["item_length"][-1]
        seen.add("".join(tokens[rows["item_id_list"][-1][:n]]))

    with_ties = {f"{x}d{y}" for x in ("abc", "acb", "bac", "bca", "cab", "cba") for y in ("e", "f")}
    assert seen == (
        {each[:5] for each in with_ties}
        if positions == "all"
        else {f"{x}de" for x in ("abc", "acb", "bac", "bca", "cab", "cba")}
    )
    for ours, theirs in zip(others, plain, strict=True):
        ours, theirs = (part._dataset[np.arange(1)] for part in (ours, theirs))
        assert torch.equal(ours["item_id_list"], theirs["item_id_list"])


def test_targets_of_windows_with_shuffled_ties_are_what_follows(tmp_path):
    path = write_set(tmp_path, DAYS)
    (train, _, _), _ = split(path, loss_positions="all", shuffle_ties=True, crop_share=0.5)
    lengths = set()
    for _ in range(100):
        for _, seq, targets in windows(train._dataset):
            assert seq[1:] == targets[:-1]
            assert len({*seq, *targets}) == len(seq) + 1
            lengths.add(len(seq))
    assert lengths == {1, 2, 3, 4, 5}


def test_augmentations_that_have_nothing_to_change_are_refused(tmp_path):
    path = write_set(tmp_path, [row[:2] for row in DAYS], columns="user_id:token\titem_id:token")
    with pytest.raises(DatasetError, match="shuffle_ties: .*small has no column 'timestamp'"):
        split(path, shuffle_ties=True)
    with pytest.raises(DatasetError, match="crop_share cuts windows: set loss_positions: all"):
        split(path, crop_share=0.5, loss_positions="last")


@pytest.mark.parametrize("model", ["GRU4Rec", "SASRec"])
def test_windows_are_refused_for_models_that_would_read_their_last_target_alone(tmp_path, model):
    settings = config(write_set(tmp_path, random_rows()), model, loss_positions="all")
    with pytest.raises(DatasetError, match=f"needs a model that trains on windows; {model}"):
        MultiModalDataset(settings).build()


def test_memory_does_not_grow_with_the_length_of_histories(tmp_path):
    path = write_set(tmp_path, random_rows())
    sizes = []
    for length in (5, 200):
        settings = config(path, model="SASRec", modalities=[], MAX_ITEM_LIST_LENGTH=length)
        dataset = MultiModalDataset(settings)
        dataset.build()
        columns = [*dataset.history.interaction.values(), *dataset.inter_feat.interaction.values()]
        sizes.append(sum(c.numel() * c.element_size() for c in columns))
    assert sizes[0] == sizes[1]


def test_a_set_without_times_is_read_in_file_order(tmp_path):
    rows = [(u, i) for u, i, _ in ROWS]
    path = write_set(tmp_path, rows, columns="user_id:token\titem_id:token", text=["a"])
    (_, _, test), dataset = split(path, use_time=False)
    assert not dataset.has_time
    assert histories(test, dataset)["u", "d"] == ["a", "b", "c"]


@pytest.mark.parametrize("time, shown", [("-1", "-1.0"), ("", "nan")])
def test_bad_times_are_refused_with_their_row(tmp_path, time, shown):
    path = write_set(tmp_path, [*ROWS[:2], ("u", "z", time)], text=["a"])
    with pytest.raises(DatasetError, match=rf"small.inter: 1 times.*row 4 \({shown}\)"):
        MultiModalDataset(config(path))


def test_times_that_are_no_numbers_are_refused(tmp_path):
    path = write_set(tmp_path, [*ROWS[:2], ("u", "z", "yesterday")], text=["a"])
    with pytest.raises(ValueError, match=r"small.inter.*'timestamp:float'.*row 4 has 'yesterday'"):
        MultiModalDataset(config(path))


def test_times_that_are_declared_text_are_refused(tmp_path):
    write_set(tmp_path, ROWS, "user_id:token\titem_id:token\ttimestamp:token")

    with pytest.raises(DatasetError, match=r"read as text; name the column timestamp:float"):
        MultiModalDataset(config(tmp_path, model="SASRec"))


def test_an_empty_set_and_sequences_of_length_one(tmp_path):
    path = write_set(tmp_path / "empty", [], text=["a"])
    with pytest.raises(DatasetError, match="small.inter: no interactions"):
        MultiModalDataset(config(path))
    path = write_set(tmp_path / "single", [("u", "a", 1), ("v", "b", 2)], text=["a"])
    with pytest.raises(DatasetError, match="all 2 users .* have a single interaction"):
        split(path)


def test_a_declared_modality_that_is_not_there_is_an_error(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a", "b", "c", "d"])
    with pytest.raises(FeatureFileError, match=r"small.image.npz: no such feature file"):
        MultiModalDataset(config(path, modalities=["text", "image"]))
    with pytest.raises(UserError, match="'modalities' is .*list of different names"):
        MultiModalDataset(config(path, modalities=["text", "text"]))


def test_modalities_and_masks(tmp_path):
    path = write_set(tmp_path, ROWS, image=["d", "a"], text=["a", "b", "c"])
    dataset = MultiModalDataset(config(path))
    assert dataset.modalities == ["text", "image"]
    tokens = dataset.field2id_token["item_id"].tolist()
    present = dataset.features["image"].present
    assert {tokens[i] for i in present.nonzero().flatten()} == {"a", "d"}
    assert dataset.features["text"].values[tokens.index("b")].item() == 2
    assert not dataset.features["text"].present[tokens.index("d")]


def test_features_are_read_as_they_are_and_an_unknown_transform_is_refused(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a", "b", "c", "d"])
    values = MultiModalDataset(config(path, feature_transform="whiten")).features["text"].values
    assert values[1:].flatten().tolist() == [1, 2, 3, 4]
    with pytest.raises(
        UserError, match="'feature_transform' is 'ica'; it must be one of whiten, zca, pca"
    ):
        MultiModalDataset(config(path, feature_transform="ica"))


def test_a_global_split_is_temporal_and_keeps_moments_together(tmp_path):
    rows = [(f"u{i % 4}", f"i{i % 7}", BASE + i // 3) for i in range(60)]
    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none"}
    loaders, _ = split(write_set(tmp_path, rows, text=["i1"]), eval_args=eval_args)
    train, valid, test = (loader._dataset.inter_feat["timestamp"] for loader in loaders)

    assert train.max() < valid.min()
    assert valid.max() < test.min()
    assert (len(train), len(valid), len(test)) == (44, 6, 6)


def test_a_global_split_may_have_a_part_without_a_share(tmp_path):
    rows = [(f"u{i % 4}", f"i{i % 7}", BASE + i) for i in range(40)]
    eval_args = {"split": {"RS": [0.8, 0, 0.2]}, "order": "TO", "group_by": "none"}
    loaders, _ = split(write_set(tmp_path, rows, text=["i1"]), eval_args=eval_args)

    assert [len(loader._dataset.inter_feat) > 0 for loader in loaders] == [True, False, True]


def test_a_global_split_without_times_or_with_one_time_is_refused(tmp_path):
    eval_args = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none"}
    rows = [(f"u{i % 4}", f"i{i % 7}", BASE) for i in range(30)]
    with pytest.raises(DatasetError, match="too many events with the same time"):
        split(write_set(tmp_path / "one", rows, text=["i1"]), eval_args=eval_args)
    timeless = write_set(
        tmp_path / "none", [row[:2] for row in rows], "user_id:token\titem_id:token", text=["i1"]
    )
    with pytest.raises(DatasetError, match="a split by time needs times"):
        split(timeless, eval_args=eval_args, use_time=False)


def test_held_out_items_are_targets_of_the_test_alone(tmp_path):
    rows = [(f"u{u}", f"i{(u + s) % 10}", BASE + s) for u in range(20) for s in range(6)]
    data_path = write_set(tmp_path, rows, text=[f"i{i}" for i in range(10)])
    loaders, dataset = split(data_path, held_out_items=0.3)
    cold = set(np.flatnonzero(dataset.held_out()))

    assert len(cold) == 3
    for loader in loaders:
        rows = loader._dataset[np.arange(len(loader._dataset))]
        assert not cold & set(rows["item_id_list"].flatten().tolist())
        assert (rows["item_length"] > 0).all()
    train, valid, test = ({*loader._dataset.inter_feat["item_id"].tolist()} for loader in loaders)
    assert not cold & (train | valid)
    assert cold & test
    matrix = loaders[0]._dataset.inter_matrix()
    assert not cold & set(matrix.col.tolist())


def test_the_history_of_a_held_out_target_is_what_came_before_it(tmp_path):
    rows = [("u", item, BASE + step) for step, item in enumerate("abcdefghij")]
    rows += [("v", item, BASE + step) for step, item in enumerate("jihgfedcba")]
    loaders, dataset = split(write_set(tmp_path, rows, text=["a"]), held_out_items=0.4)
    cold = {dataset.field2id_token["item_id"][i] for i in np.flatnonzero(dataset.held_out())}

    for loader in loaders:
        for (user, target), items in histories(loader, dataset).items():
            order = "abcdefghij" if user == "u" else "jihgfedcba"
            before = order[: order.index(target)]
            assert items == [item for item in before if item not in cold]


def test_items_of_histories_that_stand_in_a_file_count_as_trained(tmp_path):
    write_set(tmp_path, [])
    head = "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float"
    rows = {"train": ["u\ta b\tc\t3", "v\tb\tc\t4"], "valid": ["u\ta b c\td\t5"]}
    rows["test"] = rows["valid"]
    for part, lines in rows.items():
        path = tmp_path / "small" / f"small.{part}.inter"
        path.write_text("\n".join([head, *lines]) + "\n")
    settings = {"benchmark_filename": ["train", "valid", "test"], "modalities": []}
    settings |= {"alias_of_item_id": ["item_id_list"], "load_col": None}

    (train, *_), dataset = split(tmp_path, model="SASRec", **settings)

    counts = dict(
        zip(dataset.field2id_token["item_id"], train._dataset.item_counts().tolist(), strict=True)
    )
    assert counts == {"[PAD]": 0, "a": 1, "b": 2, "c": 2, "d": 0}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("user\titem\ttime", r"its first line is \['user', 'item', 'time'\]; .* item_id:token"),
        ("someone:token\titem_id:token\ttimestamp:float", "it must have the columns user_id:token"),
        (
            "user_id:token\titem_id:token_seq\ttimestamp:float",
            r".* loaded are .*'item_id:token_seq'",
        ),
        (
            "user_id:token_seq\titem_id:token\ttimestamp:float",
            r".* loaded are .*'user_id:token_seq'",
        ),
    ],
)
def test_a_first_line_that_names_no_columns_is_a_clear_error(tmp_path, header, message):
    path = write_set(tmp_path, ROWS, columns=header, text=["a"])
    with pytest.raises(DatasetError, match=f"small.inter: {message}"):
        MultiModalDataset(config(path))


def test_interactions_that_are_no_text_are_a_clear_error(tmp_path):
    path = write_set(tmp_path, ROWS, text=["a"])
    (path / "small" / "small.inter").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="small.inter: the file is in utf-16, not in utf-8"):
        MultiModalDataset(config(path))


def test_an_infinite_time_is_a_clear_error(tmp_path):
    path = write_set(tmp_path, [*ROWS, ("w", "b", "inf")], text=["a"])
    with pytest.raises(DatasetError, match=r"1 times .* infinite, first in row 10 \(inf\)"):
        MultiModalDataset(config(path))


def test_times_that_are_probably_milliseconds_are_told(toy, caplog):
    path = Path(toy["data_path"]) / "toy/toy.inter"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *(f"{row}000" for row in rows)]) + "\n")

    MultiModalDataset(load_config("MMM4Rec", None, (), toy))

    assert "times go up to 1400518400000, after the year 2100" in caplog.text


def last_items(data_path, **overrides):
    """The test target of every user."""
    (_, _, test), dataset = split(data_path, **overrides)
    tokens = dataset.field2id_token["item_id"]
    users = dataset.field2id_token["user_id"]
    rows = test._dataset[np.arange(len(test._dataset))]
    return {
        users[u]: tokens[i]
        for u, i in zip(rows["user_id"].tolist(), rows["item_id"].tolist(), strict=True)
    }


TIED = [("u", "d", 1), ("u", "c", 2), ("u", "a", 9), ("u", "z", 9), ("u", "b", 9)]


@pytest.mark.parametrize(("ties", "target"), [("file", "b"), ("item", "z")])
def test_the_order_of_ties_decides_the_test_target(tmp_path, ties, target):
    assert last_items(write_set(tmp_path, TIED), tie_order=ties, modalities=[]) == {"u": target}


def test_an_unknown_order_of_ties_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tie_order .*'time'|tie_order.* one of"):
        last_items(write_set(tmp_path, TIED), tie_order="time", modalities=[])


def test_removing_duplicates_that_do_not_exist_changes_no_target(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 5)
        for user in range(40)
        for item in random.permutation(30)[:20].tolist()
    ]
    path = write_set(tmp_path, rows)

    kept = last_items(path, modalities=[])
    assert last_items(path, modalities=[], rm_dup_inter="first") == kept
    assert last_items(path, modalities=[], rm_dup_inter="last") == kept


@pytest.mark.parametrize(("keep", "target"), [("first", "c"), ("last", "a")])
def test_of_repeated_events_the_first_or_the_last_in_time_is_kept(tmp_path, keep, target):
    rows = [("u", "a", 9), ("u", "b", 2), ("u", "a", 1), ("u", "c", 5)]

    path = write_set(tmp_path, rows)
    assert last_items(path, modalities=[], rm_dup_inter=keep) == {"u": target}


@pytest.mark.parametrize(
    "index, users",
    [
        (np.array([2, 0]), [2, 0]),
        (torch.tensor([1, 2]), [1, 2]),
        ([0, 2], [0, 2]),
        (slice(1, 3), [1, 2]),
        (np.array([False, True, True]), [1, 2]),
        (torch.tensor([True, False, True]), [0, 2]),
        (np.array([], dtype=bool), []),
        ([], []),
    ],
    ids=str,
)
def test_rows_are_taken_by_whatever_numpy_takes(index, users):
    events = Interaction({"user_id": torch.arange(3), "time": torch.arange(6.0).view(3, 2)})
    if len(users) == 0 and getattr(index, "dtype", None) == bool:
        events = events[:0]
    taken = take_rows(events, index)

    assert taken["user_id"].tolist() == users
    assert taken["time"].tolist() == events["time"][users].tolist()


@pytest.mark.parametrize("index", [1, np.int64(1), torch.tensor(1)])
def test_a_single_row_is_taken_by_a_number(index):
    assert int(take_rows(Interaction({"user_id": torch.arange(3)}), index)["user_id"]) == 1
