import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers import softmax
from recbole_mm.model.layers.softmax import Additions, candidate_cross_entropy, dot_products


def dot_product_cross_entropy(query, candidates, target):
    return candidate_cross_entropy(dot_products(candidates), query, target)


@pytest.fixture(params=[1, 12, 40, 10_000], ids="blocks of {}".format)
def inputs(request, monkeypatch):
    monkeypatch.setattr(softmax, "LOGITS_PER_BLOCK", request.param)
    monkeypatch.setattr(softmax, "ROWS_PER_BLOCK", 1)
    torch.manual_seed(0)
    query, candidates = torch.randn(7, 3).double(), torch.randn(5, 3).double()
    return query.requires_grad_(), candidates.requires_grad_(), torch.randint(0, 5, (7,))


def test_value_and_gradients_are_those_of_the_cross_entropy_of_all_logits(inputs):
    query, candidates, target = inputs
    expected = F.cross_entropy(query @ candidates.T, target)
    gradients = torch.autograd.grad(3 * expected, (query, candidates))

    loss = dot_product_cross_entropy(*inputs)

    assert_close(loss, expected)
    assert_close(torch.autograd.grad(3 * loss, (query, candidates)), gradients)


@pytest.mark.parametrize("frozen", [0, 1])
def test_frozen_tensors_get_no_gradient(inputs, frozen):
    arguments = list(inputs)
    arguments[frozen] = arguments[frozen].detach()
    dot_product_cross_entropy(*arguments).backward()
    assert arguments[frozen].grad is None
    assert arguments[1 - frozen].grad.abs().sum() > 0


def test_large_logits_stay_finite():
    query = torch.tensor([[1e4]]).requires_grad_()
    loss = dot_product_cross_entropy(query, torch.tensor([[-1.0], [1.0]]), torch.tensor([0]))
    loss.backward()
    assert loss == 2e4 and query.grad.isfinite().all()


@pytest.mark.parametrize("n", [7, 400])
def test_additions_to_some_logits_equal_those_to_the_whole_matrix(monkeypatch, n):
    monkeypatch.setattr(softmax, "ROWS_PER_BLOCK", 4)
    monkeypatch.setattr(softmax, "LOGITS_PER_BLOCK", 1000)
    torch.manual_seed(0)
    table, query = torch.randn(n, 3).double(), torch.randn(10, 3).double()
    value = torch.randn(10, 5).double()
    column, target = torch.randint(n, (10, 5)), torch.randint(n, (10,))
    given = [t.requires_grad_() for t in (table, query, value)]

    loss = candidate_cross_entropy(dot_products(table), query, target, Additions(column, value))
    expected = F.cross_entropy((query @ table.T).scatter_add(1, column, value), target)

    assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, given), torch.autograd.grad(expected, given))
