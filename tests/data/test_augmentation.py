import numpy as np
import pytest
import torch

from recbole_mm.data.augmentation import random_crops, shuffled_ties, times_as_target


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_events_at_the_same_time_take_each_others_places_and_no_others():
    times = torch.tensor([[1.0, 1.0, 2.0, 3.0, 3.0, 0.0], [5.0, 6.0, 0.0, 0.0, 0.0, 0.0]])
    real = torch.arange(6) < torch.tensor([[5], [2]])

    orders = torch.stack([shuffled_ties(times, real) for _ in range(200)])

    assert set(map(tuple, orders[:, 0, :5].tolist())) == {
        (0, 1, 2, 3, 4), (1, 0, 2, 3, 4), (0, 1, 2, 4, 3), (1, 0, 2, 4, 3),
    }  # fmt: skip
    assert (orders[:, 0, 5] == 5).all()
    assert (orders[:, 1] == torch.arange(6)).all()


def test_an_order_of_one_example():
    order = shuffled_ties(torch.tensor([4.0, 4.0, 0.0]), torch.tensor([True, True, False]))

    assert sorted(order.tolist()) == [0, 1, 2]
    assert order[2] == 2


def test_how_often_events_are_targets_when_their_order_is_drawn():
    users = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    times = np.array([1, 1, 1, 2, 2, 2, 3, 4.0])
    first, last = np.array([0, 3, 5]), np.array([3, 4, 7])

    exact = times_as_target(users, times, first, last)

    drawn = np.zeros(8)
    for start, end in zip(first, last, strict=True):
        row = torch.from_numpy(times[start : end + 1]).expand(4000, -1)
        orders = shuffled_ties(row, torch.ones_like(row, dtype=torch.bool))[:, 1:]
        drawn += np.bincount(start + orders.flatten().numpy(), minlength=8) / 4000
    assert exact == pytest.approx(drawn, abs=0.05)
    assert exact.sum() == (last - first).sum()
    assert exact[:3] == pytest.approx(2 / 3) and exact[5] == 0


def test_crops_are_parts_of_every_length_at_every_place():
    first, end = torch.full((3000,), 10), torch.full((3000,), 13)

    cut = set(zip(*(part.tolist() for part in random_crops(first, end, 1.0)), strict=True))

    assert cut == {(10, 11), (11, 12), (12, 13), (10, 12), (11, 13), (10, 13)}


def test_a_share_of_the_windows_is_cut():
    first, end = torch.zeros(4000).long(), torch.full((4000,), 1000)

    start, stop = random_crops(first, end, 0.25)

    assert float((stop - start < 1000).double().mean()) == pytest.approx(0.25, abs=0.03)
