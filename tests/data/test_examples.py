import numpy as np
import pytest
import torch
from small_set import BASE, ROWS, config, random_rows, split, write_set

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.errors import DatasetError
from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.tools.errors import UserError


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


@pytest.mark.parametrize("positions", ["last", "all"])
def test_a_column_of_several_values_has_them_at_each_event(tmp_path, positions):
    header, rows = "user_id:token\titem_id:token\ttimestamp:float\twords:token_seq", []
    for user in range(3):
        rows += [f"u{user}\ti{k}\t{k}\tw{k} w{k + 1}" for k in range(5)]
    folder = tmp_path / "dataset" / "named"
    folder.mkdir(parents=True)
    (folder / "named.inter").write_text("\n".join([header, *rows]) + "\n")
    settings = {"data_path": str(folder.parent), "load_col": None, "MAX_ITEM_LIST_LENGTH": 3}
    loaded = load_config(
        "MMM4Rec", "named", (), {**settings, "loss_positions": positions, "modalities": []}
    )

    train, *_ = MultiModalDataset(loaded).build()
    batch = train[np.arange(len(train))]

    words = train.field2id_token["words"]
    for items, pairs in zip(batch["item_id_list"].tolist(), batch["words_list"], strict=True):
        for item, pair in zip(items, pairs.tolist(), strict=True):
            number = int(train.field2id_token["item_id"][item][1:]) if item else None
            expected = [f"w{number}", f"w{number + 1}"] if item else ["[PAD]", "[PAD]"]
            assert [words[word] for word in pair] == expected
