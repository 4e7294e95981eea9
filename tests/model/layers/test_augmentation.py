"""Dropping items and features."""

import torch

from recbole_mm.model.layers.augmentation import drop_features, drop_items


def test_dropped_items_leave_no_gap_and_shorten_the_history():
    item_seq = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0]])
    keep = torch.tensor([[True, False, True, False], [True, True, True, False]])

    dropped, length = drop_items(item_seq, torch.tensor([4, 2]), keep)

    assert dropped.tolist() == [[1, 3, 0, 0], [5, 6, 0, 0]]
    assert length.tolist() == [2, 2]


def test_the_first_item_always_stays():
    item_seq = torch.tensor([[1, 2, 3], [4, 0, 0]])

    dropped, length = drop_items(item_seq, torch.tensor([3, 1]), torch.zeros(2, 3).bool())

    assert dropped.tolist() == [[1, 0, 0], [4, 0, 0]]
    assert length.tolist() == [1, 1]


def test_as_released_a_dropped_item_replaces_the_one_before_it():
    item_seq = torch.tensor([[1, 2, 3, 4, 0]])
    keep = torch.tensor([[True, False, False, True, False]])

    dropped, length = drop_items(item_seq, torch.tensor([4]), keep, released=True)

    assert dropped.tolist() == [[3, 4, 0, 0, 0]]
    assert length.tolist() == [2]


def test_dropped_features_keep_their_expectation():
    torch.manual_seed(0)
    dropped = drop_features(torch.ones(200, 500), 0.2)

    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert abs(dropped.mean().item() - 1) < 0.01
