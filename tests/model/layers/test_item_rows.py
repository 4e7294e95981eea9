"""Tables with an entry per item follow the order of the items, and grow with them."""

import pytest
import torch
from torch import nn

from recbole_mm.model.layers.item_rows import (
    OtherItems,
    append_zeros,
    reorder,
    stored_rows,
    tables_of_items,
)

AXES = {"ids.weight": 0, "lookup": 1, "*.bias": 0}


class Tables(nn.Module):
    """Three items: their embeddings, a table with the items in columns, and an unrelated layer."""

    def __init__(self):
        super().__init__()
        self.ids = nn.Embedding.from_pretrained(torch.tensor([[0.0], [1.0], [2.0]]), freeze=False)
        self.register_buffer("lookup", torch.tensor([[0, 7, 8], [0, 5, 6]]))
        self.layer = nn.Linear(2, 2)


def test_tables_are_those_of_the_patterns_with_an_entry_per_item():
    assert set(tables_of_items(Tables(), AXES, 3)) == {"ids.weight", "lookup"}


def test_tables_are_brought_into_the_order_of_the_items():
    module = Tables()

    reorder(tables_of_items(module, AXES, 3), stored_rows(["[PAD]", "a", "b"], ["[PAD]", "b", "a"]))

    assert module.ids.weight.tolist() == [[0], [2], [1]]
    assert module.lookup.tolist() == [[0, 8, 7], [0, 6, 5]]


@pytest.mark.parametrize(
    "items, message",
    [
        (["[PAD]", "a", "c"], r"1 of the 2 items of the data are not in it, e.g. \['c'\]"),
        (["[PAD]", "a"], "0 of the 1 items.* Its IDs are for"),
    ],
)
def test_other_items_have_no_rows(items, message):
    with pytest.raises(OtherItems, match=message):
        stored_rows(["[PAD]", "a", "b"], items)


def test_appended_items_are_zero_and_trainable():
    module = Tables()

    append_zeros(module, tables_of_items(module, AXES, 3), 2)

    assert module.ids.weight.tolist() == [[0], [1], [2], [0], [0]]
    assert module.ids.weight.requires_grad
    assert module.layer.bias.shape == (2,)
