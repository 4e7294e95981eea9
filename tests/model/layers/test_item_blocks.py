from typing import NamedTuple

import pytest
import torch

from recbole_mm.model.layers.item_blocks import in_blocks


class Parts(NamedTuple):
    by_name: dict
    pair: list
    missing: None
    shared: torch.Tensor
    name: str


def parts_of(item_id):
    rows = item_id.unsqueeze(1) * torch.tensor([1.0, 10.0])
    return Parts({"a": rows}, [item_id > 2, -rows], None, torch.tensor(3.0), "x")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_the_rows_of_all_blocks_are_joined_wherever_they_are(size):
    item_id = torch.tensor([4, 0, 3, 3, 9, 1, 2])
    calls = []

    def recorded(block):
        calls.append(len(block))
        return parts_of(block)

    found = in_blocks(recorded, item_id, size)

    expected = parts_of(item_id)
    assert max(calls) <= size and sum(calls) == 7
    assert found.by_name["a"].equal(expected.by_name["a"])
    assert all(map(torch.equal, found.pair, expected.pair))
    assert (found.missing, found.name, found.shared) == (None, "x", 3)
