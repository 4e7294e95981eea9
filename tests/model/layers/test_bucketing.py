import pytest
import torch

from recbole_mm.model.layers.bucketing import group_by_length, map_by_length


@pytest.mark.parametrize("positions", [0, 1, 2, 5, 100])
def test_groups_cover_every_row_once_and_keep_the_order(positions):
    lengths = torch.tensor([3, 1, 7, 2, 7, 1, 4])
    seen = []

    def first_and_longest(index, longest):
        seen.append(longest)
        assert int(lengths[index].max()) == longest
        return torch.stack([index, lengths[index]], dim=1)

    result = map_by_length(first_and_longest, lengths, positions)

    assert result[:, 0].tolist() == list(range(7))
    assert result[:, 1].tolist() == lengths.tolist()
    assert seen == sorted(seen)


def test_a_group_holds_as_many_positions_as_it_may():
    lengths = torch.tensor([1, 5, 1, 2, 1, 12, 1])
    groups = group_by_length(lengths, positions=6)
    assert [(sorted(group.index.tolist()), group.longest) for group in groups] == [
        ([0, 2, 4, 6], 1),
        ([3], 2),
        ([1], 5),
        ([5], 12),
    ]


def test_gradients_reach_every_row():
    x = torch.randn(5, 3, requires_grad=True)
    lengths = torch.tensor([2, 3, 1, 3, 2])
    map_by_length(lambda index, longest: x[index, :longest].sum(1), lengths, 2).sum().backward()
    assert (x.grad[:, 0] == 1).all()
