"""Files that are split already: the same targets and histories as leave-one-out of one file."""

import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.errors import DatasetError
from recbole_mm.run.run import fit_and_evaluate

USERS = [f"u{number}" for number in range(6)]
TINY = {"epochs": 1, "hidden_size": 8, "inner_size": 8, "show_progress": False}


def item_of(user, step):
    return f"i{(USERS.index(user) + step) % 9}"


def events(length=6):
    """Every user's events, by time."""
    return [(user, item_of(user, step), 1000 + step) for user in USERS for step in range(length)]


def write(folder, part, rows, header):
    path = folder / "dataset" / "small" / f"small{part}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n")


def write_plain(folder, parts=("train", "valid", "test"), shuffled=False):
    """The last event of a user is in the last file, the one before in the last but one."""
    rows = {part: [] for part in parts}
    for user, item, time in events():
        place = {1005: parts[-1], 1004: parts[-2]}.get(time, parts[0])
        rows[place].append((user, item, time))
    for part in parts:
        order = np.random.default_rng(1).permutation(len(rows[part])) if shuffled else ...
        write(
            folder,
            f".{part}",
            np.array(rows[part], dtype=object)[order].tolist(),
            "user_id:token\titem_id:token\ttimestamp:float",
        )


def write_histories(folder, parts=("train", "valid", "test"), item="item_id", times=True):
    rows = {part: [] for part in parts}
    for user in USERS:
        for step in range(1, 6):
            place = {5: parts[-1], 4: parts[-2]}.get(step, parts[0])
            before = range(step)
            row = [user, item_of(user, step), " ".join(item_of(user, k) for k in before)]
            row += [1_700_000_001 + step, " ".join(str(1_700_000_001 + k) for k in before)]
            rows[place].append(row if times else row[:3])
    header = f"user_id:token\t{item}:token\t{item}_list:token_seq"
    header += "\ttimestamp:float\ttimestamp_list:float_seq" if times else ""
    for part in parts:
        write(folder, f".{part}", rows[part], header)


def load(folder, model="SASRec", **settings):
    settings = {"data_path": str(folder / "dataset"), "modalities": [], **settings}
    config = load_config(model, "small", (), settings)
    dataset = MultiModalDataset(config)
    return [loader._dataset for loader in data_preparation(config, dataset)], dataset


def read(part, item="item_id"):
    """``(user, history, target)`` of every row."""
    if len(part) == 0:
        return set()
    rows = part[np.arange(len(part))]
    users, items = part.field2id_token["user_id"], part.field2id_token[item]
    return {
        (str(users[user]), " ".join(map(str, items[history[:n]])), str(items[target]))
        for user, history, n, target in zip(
            rows["user_id"],
            rows[f"{item}_list"].numpy(),
            rows["item_length"],
            rows[item],
            strict=True,
        )
    }


@pytest.fixture
def leave_one_out(tmp_path):
    """What a single file gives, histories of at most four events."""
    folder = tmp_path / "single"
    write(folder, "", events(), "user_id:token\titem_id:token\ttimestamp:float")
    parts, _ = load(folder, MAX_ITEM_LIST_LENGTH=4)
    return [read(part) for part in parts]


@pytest.mark.parametrize("written", [write_plain, write_histories])
def test_three_files_give_the_targets_and_histories_of_a_single_one(
    tmp_path, leave_one_out, written
):
    written(tmp_path)
    names = ["train", "valid", "test"]

    parts, dataset = load(tmp_path, benchmark_filename=names, MAX_ITEM_LIST_LENGTH=4)

    assert [read(part) for part in parts] == leave_one_out
    assert dataset.item_num - 1 == 9


def test_popularity_counts_the_events_of_all_files(tmp_path):
    names = ["train", "valid", "test"]
    write_plain(tmp_path / "events")
    write_histories(tmp_path / "histories")
    _, of_events = load(tmp_path / "events", benchmark_filename=names)
    _, of_histories = load(tmp_path / "histories", benchmark_filename=names)

    counts = of_events.item_counts_of_all_events()

    tokens = of_events.field2id_token["item_id"]
    items = [item for _, item, _ in events()]
    assert counts[1:].tolist() == [items.count(token) for token in tokens[1:]]
    in_histories = sum(1 + step for step in range(1, 6)) * len(USERS)
    assert of_histories.item_counts_of_all_events().sum() == in_histories


def test_rows_of_plain_files_may_be_in_any_order(tmp_path, leave_one_out):
    write_plain(tmp_path, shuffled=True)
    names = ["train", "valid", "test"]

    parts, _ = load(tmp_path, benchmark_filename=names, MAX_ITEM_LIST_LENGTH=4)

    assert [read(part) for part in parts] == leave_one_out


@pytest.mark.parametrize("written", [write_plain, write_histories])
def test_two_files_are_training_and_test(tmp_path, leave_one_out, written):
    written(tmp_path, ["train", "test"])
    settings = {"benchmark_filename": ["train", "test"], "MAX_ITEM_LIST_LENGTH": 4}

    parts, _ = load(tmp_path, **settings)
    place = {"data_path": str(tmp_path / "dataset"), **TINY}
    result = fit_and_evaluate(load_config("SASRec", "small", (), {**place, **settings}))

    train, valid, test = (read(part) for part in parts)
    assert train == leave_one_out[0] | leave_one_out[1]
    assert (valid, test) == (set(), leave_one_out[2])
    assert result.best_valid_result is None and 0 <= result.test_result["hit@10"] <= 1


def test_an_event_of_training_has_no_history_from_the_test(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write(tmp_path, ".train", [("u", "a", 1), ("u", "c", 3)], header)
    write(tmp_path, ".test", [("u", "b", 2)], header)

    (train, _, test), _ = load(tmp_path, benchmark_filename=["train", "test"])

    assert read(train) == {("u", "a", "c")}
    assert read(test) == {("u", "a c", "b")}


def test_items_of_histories_are_items_under_any_name_of_the_column(tmp_path, leave_one_out):
    write_histories(tmp_path, item="sku")
    settings = {"benchmark_filename": ["train", "valid", "test"], "ITEM_ID_FIELD": "sku"}

    parts, dataset = load(tmp_path, MAX_ITEM_LIST_LENGTH=4, **settings)

    assert [read(part, "sku") for part in parts] == leave_one_out
    assert sorted(dataset.field2id_token["sku"][1:]) == [f"i{number}" for number in range(9)]


def test_times_of_histories_are_exact_and_cut_as_the_items_are(tmp_path):
    write_histories(tmp_path)
    names = ["train", "valid", "test"]

    (_, _, test), dataset = load(tmp_path, benchmark_filename=names, MAX_ITEM_LIST_LENGTH=3)

    rows = test[np.arange(len(test))]
    assert dataset.has_time
    assert rows["timestamp_list"].dtype == torch.float64
    assert rows["timestamp_list"].tolist() == [[1_700_000_003, 1_700_000_004, 1_700_000_005]] * 6
    assert rows["item_length"].tolist() == [3] * 6


def test_a_model_with_position_embeddings_reads_the_latest_items(tmp_path):
    write_histories(tmp_path)
    settings = {"benchmark_filename": ["train", "valid", "test"], "MAX_ITEM_LIST_LENGTH": 2}
    settings |= {"data_path": str(tmp_path / "dataset"), "hidden_size": 8, "inner_size": 8}
    config = load_config("SASRec", "small", (), settings)
    (train, *_) = data_preparation(config, MultiModalDataset(config))

    model = get_model("SASRec")(config, train._dataset)

    assert all(torch.isfinite(model.calculate_loss(batch)) for batch in train)


def test_files_of_histories_without_times_run_without_time(tmp_path):
    write_histories(tmp_path, times=False)

    _, dataset = load(tmp_path, benchmark_filename=["train", "valid", "test"])

    assert not dataset.has_time


def test_histories_that_cannot_be_read_name_their_file_and_row(tmp_path):
    write_histories(tmp_path)
    names = ["train", "valid", "test"]
    path = tmp_path / "dataset" / "small" / "small.valid.inter"
    good = path.read_text()
    for line, message in (
        ("u0\ti1\t\t1\t", "1 row has an empty item_id_list, the first is row 8"),
        (
            "u0\ti1\ti2 i3\t1\t7",
            "timestamp_list and item_id_list of different lengths, the first i",
        ),
        ("\ti1\ti2\t1\t7", "1 row has no user_id, the first is row 8"),
    ):
        path.write_text(f"{good}{line}\n")
        with pytest.raises(DatasetError, match=f"small.valid.inter: .*{message}"):
            load(tmp_path, benchmark_filename=names)
    write(tmp_path, ".valid", [("u0", "i1")], "user_id:token\titem_id:token")
    with pytest.raises(DatasetError, match=r"small.train.inter and .*small.valid.inter differ in"):
        load(tmp_path, benchmark_filename=names)


@pytest.mark.parametrize("names", [["train"], ["a", "b", "c", "d"], ["train", "test", "test"]])
def test_other_than_two_or_three_files_are_refused(names):
    with pytest.raises(
        ConfigError, match=r"benchmark_filename .*: name the files of training, val"
    ):
        load_config("SASRec", "small", (), {"benchmark_filename": names})


def test_settings_that_need_events_are_refused_for_files_of_histories(tmp_path):
    write_histories(tmp_path)
    names = ["train", "valid", "test"]

    with pytest.raises(
        DatasetError, match=r"held_out_items: 0.3 needs events, but the files of sm"
    ):
        load(tmp_path, benchmark_filename=names, held_out_items=0.3)


def test_a_training_file_of_single_events_is_refused(tmp_path):
    header = "user_id:token\titem_id:token\ttimestamp:float"
    write(tmp_path, ".train", [("u", "a", 1)], header)
    write(tmp_path, ".test", [("u", "b", 2)], header)

    with pytest.raises(DatasetError, match="no user has two events in the training file"):
        load(tmp_path, benchmark_filename=["train", "test"])


def test_settings_without_effect_on_parts_are_named(tmp_path, caplog):
    write_histories(tmp_path)
    split = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}

    load(tmp_path, benchmark_filename=["train", "valid", "test"], rm_dup_inter="first", **split)

    assert "eval_args: split: no effect on files that are already split" in caplog.text
