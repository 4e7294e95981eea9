"""The table has features by item, which items have them, and which IDs are trained."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from recbole_mm.model.layers.item_table import ItemTable, id_rows, keep_rows, take

ID = torch.tensor([3, 1, 3])


def table(present=((0, 1, 1, 1), (0, 1, 0, 0)), trained=(0, 1, 1, 0)) -> ItemTable:
    """Three items with a text; the first has a picture; the last is not trained."""
    values = torch.arange(8.0).view(4, 2), torch.arange(12.0).view(4, 3)
    masks = (torch.tensor(mask).bool() for mask in present)
    features = dict(zip(("text", "image"), zip(values, masks, strict=True), strict=True))
    return ItemTable(features, torch.tensor(trained).bool())


def test_items_are_looked_up_by_their_id():
    items = table()

    assert items.modalities == ["text", "image"]
    assert items.feature("image", ID).tolist() == [[9, 10, 11], [3, 4, 5], [9, 10, 11]]
    assert items.present("image", ID).tolist() == [False, True, False]
    assert items.available(ID).tolist() == [[True, False], [True, True], [True, False]]


def test_a_table_is_not_in_a_checkpoint():
    assert table().state_dict() == {}


def test_adapted_features_are_zero_where_they_are_missing():
    items, adapter = table(), nn.Linear(3, 2)

    adapted = items.adapt("image", adapter)

    assert_close(adapted[1], adapter(items.feature("image")[1]))
    assert adapted[2:].tolist() == [[0, 0], [0, 0]]
    assert_close(items.adapt("image", adapter, ID), adapted[ID])
    assert_close(items.adapt("image", adapter, mask=False), adapter(items.feature("image")))


def test_adapted_features_have_the_dtype_of_the_adapter():
    adapter = nn.Linear(2, 2).double()

    assert table().adapt("text", adapter).dtype == torch.float64


def test_untrained_ids_are_zero():
    items, embedding = table(), torch.arange(8.0).view(4, 2)

    trained = items.trained_ids(ID)

    assert trained.tolist() == [False, True, False]
    assert id_rows(embedding, ID, trained).tolist() == [[0, 0], [2, 3], [0, 0]]
    assert id_rows(embedding, ID, None).tolist() == [[6, 7], [2, 3], [6, 7]]
    assert id_rows(embedding, None, items.trained_ids())[1:].tolist() == [[2, 3], [4, 5], [0, 0]]
    assert table(trained=(0, 1, 1, 1)).trained_ids() is None


@pytest.mark.parametrize(
    "by_id, expected", [(False, [False, True, True]), (True, [False, False, True])]
)
def test_an_item_is_unknown_without_a_modality_and_a_trained_id(by_id, expected):
    items = table(present=((0, 1, 0, 0), (0, 0, 0, 0)))

    assert items.unknown(by_id).tolist() == [False, *expected]


def test_a_table_is_complete_when_every_item_has_every_modality():
    assert not table().is_complete
    assert table(present=((0, 1, 1, 1), (0, 1, 1, 1))).is_complete


def test_kept_modalities_are_the_only_ones_that_items_have():
    items = table(present=((0, 1, 1, 1), (0, 1, 1, 1)))
    before = items.feature("text")

    items.keep_modalities(["image"])

    assert items.available()[1:].tolist() == [[False, True]] * 3
    assert not items.feature("text").any() and before.any()  # which others may share
    assert not items.is_complete
    with pytest.raises(
        ValueError, match=r"no modality \['audio'\]; the model has \['text', 'image'\]"
    ):
        items.keep_modalities(["image", "audio"])


def test_permuted_features_are_those_of_other_items_in_every_modality():
    items = table()

    items.permute_features(torch.tensor([0, 3, 1, 2]))

    assert items.feature("text").tolist() == [[0, 1], [6, 7], [2, 3], [4, 5]]
    assert items.present("image").tolist() == [False, False, True, False]


def test_rows_that_are_not_kept_get_no_gradient():
    """Those of a normalised zero row overflow in float16, and infinity times 0 is not a number."""
    embedding = torch.ones(3, 2, requires_grad=True)

    kept = keep_rows(embedding, torch.tensor([True, False, True]))
    kept.backward(torch.tensor([[1.0, 1.0], [torch.inf, torch.nan], [1.0, 1.0]]))

    assert kept.tolist() == [[1, 1], [0, 0], [1, 1]]
    assert embedding.grad.tolist() == [[1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("rows", [slice(1, None), torch.tensor([2, 0, 2])])
def test_taken_rows_are_those_of_an_index(rows):
    values = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)

    assert torch.equal(take(values, rows), values[rows])
    assert torch.autograd.gradcheck(lambda t: take(t, rows), values)
