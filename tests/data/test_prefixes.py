from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.data.dataset import SequentialDataset
from recbole.data.interaction import Interaction
from small_set import BASE, ROWS, config, histories, random_rows, split, write_set

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.prefixes import take_rows


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


def test_a_set_without_times_is_read_in_file_order(tmp_path):
    rows = [(u, i) for u, i, _ in ROWS]
    path = write_set(tmp_path, rows, columns="user_id:token\titem_id:token", text=["a"])
    (_, _, test), dataset = split(path, use_time=False)
    assert not dataset.has_time
    assert histories(test, dataset)["u", "d"] == ["a", "b", "c"]


@pytest.mark.parametrize("time, shown", [("-1", "-1.0"), ("", "nan")])
def test_bad_times_are_refused_with_their_row(tmp_path, time, shown):
    path = write_set(tmp_path, [*ROWS[:2], ("u", "z", time)], text=["a"])
    with pytest.raises(DatasetError, match=rf"small.inter: 1 time.*row 4 \({shown}\)"):
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


def test_a_share_of_held_out_items_that_leaves_nothing_to_train_on_is_refused(tmp_path):
    path = write_set(tmp_path, random_rows())
    with pytest.raises(
        DatasetError, match="held_out_items: 0.99 leaves no training target, 17 of 17"
    ):
        split(path, held_out_items=0.99, modalities=[])


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
    with pytest.raises(DatasetError, match=r"1 time .* infinite, first in row 10 \(inf\)"):
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
