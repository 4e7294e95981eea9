import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.repeat import STEP, RepeatPropensity

SEQ = torch.tensor([[3, 5, 3, 7, 0], [2, 2, 2, 2, 0]])


def counted(end, row=None):
    propensity = RepeatPropensity(5, "shared").double()
    with torch.no_grad():
        propensity.weight.fill_(1 / STEP)
    return propensity(SEQ, end, row)


def test_each_distinct_item_counts_once_at_its_last_position():
    assert counted(torch.tensor([4, 3])).tolist() == [[0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]


def test_several_ends_of_a_row_equal_each_alone():
    together = counted(torch.tensor([1, 2, 4, 3]), torch.tensor([0, 0, 0, 1]))

    assert together.tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0]]


@pytest.mark.parametrize("by", ["shared", "recency"])
def test_a_repeat_propensity_starts_without_any_effect(by):
    assert RepeatPropensity(5, by)(SEQ, torch.tensor([4, 4])).eq(0).all()


def test_the_recency_of_an_item_is_the_number_of_events_since():
    propensity = RepeatPropensity(5, "recency").double()
    with torch.no_grad():
        propensity.weight.copy_(torch.arange(5) / STEP)

    added = propensity(SEQ, torch.tensor([4, 3]))

    assert_close(added, torch.tensor([[0, 2, 1, 0, 0], [0, 0, 0, 0, 0]]).double())


def test_gradients_arrive_at_every_recency_that_occurs():
    propensity = RepeatPropensity(5, "recency").double()

    propensity(SEQ[:1], torch.tensor([4])).sum().backward()

    assert propensity.weight.grad.tolist() == [STEP, STEP, STEP, 0, 0]
