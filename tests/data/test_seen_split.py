"""Features that know a split: they go with that split alone."""

import json

import numpy as np
import pytest
import yaml

from recbole_mm.config.load import load_config
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.run.splits import load_dataset

ITEMS = [f"i{item}" for item in range(9)]


def write_events(root, name, users=range(6), first_step=0):
    """Seven events of each user on three days, so that the test target hangs on the order of ties."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user in users:
        for step in range(first_step, 7):
            item = (user * 2 + step * 5) % 9
            rows.append(f"u{user}\ti{item}\t{86_400 * min(step // 2, 2)}")
    (folder / f"{name}.inter").write_text("\n".join(rows) + "\n")


def parts_of(root, name="small", **settings):
    """Training, validation and test."""
    given = {"data_path": str(root), **settings}
    return load_dataset(load_config("UniSRec", name, config_dict=given)).build()


def part_of(root, name="small", **settings):
    return parts_of(root, name, **settings)[0]


def write_features(root, name, split, modality="tuned_text"):
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    info = {"encoder": "encoders/small-tuned", "dimension": 4}
    if split is not None:
        info["tuning"] = {"split": split}
    write_item_features(feature_path(root / name, name, modality), ITEMS, values, info)


@pytest.fixture
def root(tmp_path):
    """A data set with features of an encoder that was tuned on it, ties in the order of items."""
    root = tmp_path / "dataset"
    write_events(root, "small")
    write_features(root, "small", part_of(root, modalities=[], tie_order="item").split_record())
    return root


def test_a_training_part_is_known_by_its_events_not_by_their_order(root):
    by_item = part_of(root, modalities=[], tie_order="item").split_record()
    again = part_of(root, modalities=[], tie_order="item", MAX_ITEM_LIST_LENGTH=2).split_record()
    by_file = part_of(root, modalities=[]).split_record()

    assert by_item == again
    assert (by_item["dataset"], by_item["users"], by_item["events"]) == ("small", 6, 6 * 5)
    assert by_file["events"] == by_item["events"]
    assert by_file["sha256"] != by_item["sha256"]


def test_features_of_a_tuned_encoder_are_used_with_the_split_of_the_tuning(root):
    train = part_of(root, tie_order="item")

    assert train.modalities == ["tuned_text"]
    assert json.loads(json.dumps(train.split_record())) == train.split_record()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tie_order": "file"}, "tie_order: item then, file now"),
        ({"held_out_items": 0.2}, "held_out_items: 0.0 then, 0.2 now"),
        ({"eval_args": {"split": {"LS": "test_only"}}}, "eval_args: .*valid_and_test.*test_only"),
        (
            {"eval_args": {"split": {"RS": [0.3, 0.3, 0.4]}}},
            "eval_args: .*valid_and_test.*RS",
        ),
        ({"item_inter_num_interval": "[5,inf)"}, "item_inter_num_interval: "),
        ({"val_interval": {"timestamp": "[0,100000]"}}, "val_interval: None then"),
    ],
)
def test_any_other_split_is_refused_with_the_settings_that_differ(root, settings, words):
    with pytest.raises(DatasetError, match=words) as caught:
        part_of(root, **{"tie_order": "item", **settings})

    assert "small.tuned_text.npz: its encoder was tuned on 30 events of 6 users" in str(
        caught.value
    )
    assert "omit 'tuned_text'" in str(caught.value)


def test_other_settings_that_give_the_same_training_events_are_accepted(root):
    """The filter leaves all events, and the training part has the same ones."""
    part_of(root, tie_order="item", val_interval={"timestamp": "[0,900000]"})


def test_new_interactions_of_the_same_data_set_are_refused(root):
    write_events(root, "small", users=range(7))

    with pytest.raises(DatasetError, match="settings are the same, so the interactions differ"):
        part_of(root, tie_order="item")


@pytest.mark.parametrize(
    ("users", "first_step"), [(range(3), 0), (range(6), 1), (range(20, 26), 0)]
)
def test_another_data_set_is_refused_whether_its_events_overlap_or_not(root, users, first_step):
    tuned_on = part_of(root, modalities=[], tie_order="item").split_record()
    write_events(root, "other", users, first_step)
    write_features(root, "other", tuned_on)

    with pytest.raises(
        DatasetError, match="of 'small', but the training part is now .* of 'other'"
    ):
        part_of(root, "other", tie_order="item")


def test_a_modality_that_is_not_in_use_is_not_checked(root):
    write_features(root, "small", None, modality="text")

    assert part_of(root, modalities=["text"]).modalities == ["text"]


def test_a_domain_of_a_mixture_is_compared_as_a_data_set_of_its_own(root):
    write_events(root, "other", range(3))
    (root / "both").mkdir()
    (root / "both" / "both.yaml").write_text(yaml.safe_dump({"domains": ["small", "other"]}))
    write_features(root, "other", part_of(root, "other", modalities=[]).split_record())
    write_features(root, "small", part_of(root, "small", modalities=[]).split_record())

    assert part_of(root, "both").modalities == ["tuned_text"]
    with pytest.raises(
        DatasetError, match="of 'small', but the training part is now .* of 'small'"
    ):
        part_of(root, "both", tie_order="item")


@pytest.mark.parametrize("split", ["sha256", {"sha256": 1}, []])
def test_a_damaged_record_is_refused(root, split):
    write_features(root, "small", split)

    with pytest.raises(DatasetError, match="the record of the split .* is damaged"):
        part_of(root)


def names(train, ids):
    return [train.id2token("item_id", int(item)) for item in ids if item]


@pytest.mark.parametrize("window", [1, 3])
def test_next_items_are_the_targets_of_training_and_the_items_before_them(root, window):
    train = part_of(root, modalities=[], tie_order="item")
    before, targets = train.next_items(window)
    batch = train[np.arange(len(train))]

    assert before.shape == (len(train), window)
    assert targets.tolist() == batch["item_id"].tolist()
    for row, length in enumerate(batch["item_length"].tolist()):
        history = batch["item_id_list"][row, :length].tolist()
        assert [item for item in before[row] if item] == history[::-1][:window]


def test_no_validation_or_test_target_is_among_the_next_items(tmp_path):
    """Every event has an item of its own, so each can be recognized."""
    root = tmp_path / "dataset"
    (root / "small").mkdir(parents=True)
    rows = [f"u{user}\tu{user}-{step}\t{step}" for user in range(5) for step in range(user + 2)]
    header = "user_id:token\titem_id:token\ttimestamp:float"
    (root / "small" / "small.inter").write_text("\n".join([header, *rows]) + "\n")

    train, valid, test = parts_of(root, modalities=[])
    before, targets = train.next_items(10)

    seen = {*names(train, before.ravel()), *names(train, targets)}
    left_out = [name for part in (valid, test) for name in names(train, part.inter_feat["item_id"])]
    assert sorted(left_out) == ["u1-2", "u2-2", "u2-3", "u3-3", "u3-4", "u4-4", "u4-5"]
    assert not seen & set(left_out)
    assert len(seen) == len(rows) - len(left_out)
    assert set(names(train, train.events_seen()[1])) == seen
