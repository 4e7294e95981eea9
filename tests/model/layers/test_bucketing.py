from itertools import combinations

import pytest
import torch

from recbole_mm.model.layers.bucketing import GROUP_COST, group_by_length, map_by_length


@pytest.mark.parametrize("positions", [0, 1, 2, 5, 100])
def test_groups_cover_every_row_once_and_keep_the_order(positions):
    lengths = torch.tensor([3, 1, 7, 2, 7, 1, 4])
    seen = []

    def first_and_longest(index, longest):
        seen.append(longest)
        assert int(lengths[index].max()) == longest
        return torch.stack([index, lengths[index]], dim=1)

    result = map_by_length(first_and_longest, group_by_length(lengths, positions))

    assert result[:, 0].tolist() == list(range(7))
    assert result[:, 1].tolist() == lengths.tolist()
    assert seen == sorted(seen)


def test_a_group_has_at_most_the_given_number_of_positions():
    lengths = torch.tensor([1, 5, 1, 2, 1, 12, 1])
    groups = group_by_length(lengths, positions=6)
    assert [(sorted(group.index.tolist()), group.longest) for group in groups] == [
        ([0, 2, 4, 6], 1),
        ([3], 2),
        ([1], 5),
        ([5], 12),
    ]


@pytest.mark.parametrize("positions", [0, 6])
def test_an_empty_history_is_refused_by_its_row(positions):
    with pytest.raises(ValueError, match="row 2 of the batch has an empty history"):
        group_by_length(torch.tensor([3, 1, 0, 2]), positions)


def cost(groups):
    return sum(len(group.index) * group.longest + GROUP_COST for group in groups)


@pytest.mark.parametrize("positions", [300, 1024])
def test_no_other_split_is_cheaper(positions):
    torch.manual_seed(0)
    lengths = torch.empty(400).geometric_(0.3).clamp(max=9).long()
    found = group_by_length(lengths, positions)

    ascending = lengths.sort().values
    cheapest = min(
        sum(
            cost(group_by_length(run.clamp(min=int(run.max())), positions))
            for run in parts(ascending, cuts)
        )
        for n in range(9)
        for cuts in combinations(range(1, 9), n)
    )
    assert cost(found) == cheapest
    assert all(len(group.index) * group.longest <= positions for group in found)


def parts(ascending, cuts):
    """Split after every length in ``cuts``."""
    bounds = torch.searchsorted(ascending, torch.tensor([*cuts, 99]), right=True)
    return [run for run in ascending.tensor_split(bounds[:-1]) if len(run)]


def test_gradients_reach_every_row():
    x = torch.randn(5, 3, requires_grad=True)
    lengths = torch.tensor([2, 3, 1, 3, 2])
    groups = group_by_length(lengths, 2)
    map_by_length(lambda index, longest: x[index, :longest].sum(1), groups).sum().backward()
    assert (x.grad[:, 0] == 1).all()
