import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers import recomputed_softmax
from recbole_mm.model.layers.recomputed_softmax import RecomputedScores, recomputed_cross_entropy
from recbole_mm.model.layers.softmax import Additions, dot_products

N = 7


@pytest.fixture(params=[1, 12, 10_000], ids="logits {}".format)
def inputs(request, monkeypatch):
    """Users, an adapter, a table of IDs and targets; items are features through the adapter, and IDs."""
    monkeypatch.setattr(recomputed_softmax, "LOGITS_PER_BLOCK", request.param)
    monkeypatch.setattr(recomputed_softmax, "ROWS_PER_BLOCK", 1)
    torch.manual_seed(0)
    query, adapter = torch.randn(5, 3).double(), torch.randn(4, 3).double()
    table, target = torch.randn(N, 3).double(), torch.randint(N, (5,))
    return *(tensor.requires_grad_() for tensor in (query, adapter, table)), target


def items_of(adapter, table, noise=0.0):
    feature = torch.arange(4.0 * N).view(N, 4).sin().double()

    def scores_of(item_id):
        rows = feature[item_id] @ adapter + F.embedding(item_id, table, sparse=True)
        return dot_products(rows + noise * torch.randn(rows.shape, dtype=rows.dtype))

    return scores_of


@pytest.mark.parametrize("size", [1, 3, N, 100])
def test_value_and_gradients_are_those_of_the_cross_entropy_of_all_logits(inputs, size):
    query, adapter, table, target = inputs
    scores_of = items_of(adapter, table)
    given = (query, adapter, table)
    expected = F.cross_entropy(scores_of(torch.arange(N))(query), target)
    gradients = [g.to_dense() for g in torch.autograd.grad(3 * expected, given)]

    scores = RecomputedScores(scores_of, torch.arange(N), size, [adapter, table])
    loss = recomputed_cross_entropy(scores, query, target)

    assert_close(loss, expected)
    assert_close(list(torch.autograd.grad(3 * loss, given)), gradients)


def test_additions_equal_those_to_the_whole_matrix(inputs):
    query, adapter, table, target = inputs
    value = torch.randn(5, 4).double().requires_grad_()
    column = torch.randint(N, (5, 4))
    given = (query, adapter, value)
    logits = items_of(adapter, table)(torch.arange(N))(query).scatter_add(1, column, value)
    expected = F.cross_entropy(logits, target)

    scores = RecomputedScores(items_of(adapter, table), torch.arange(N), 3, [adapter, table])
    loss = recomputed_cross_entropy(scores, query, target, Additions(column, value))

    assert_close(loss, expected)
    assert_close(torch.autograd.grad(loss, given), torch.autograd.grad(expected, given))


def test_gradients_are_those_of_the_very_draws_of_the_loss(inputs):
    query, adapter, table, target = inputs
    scores = RecomputedScores(items_of(adapter, table, 1.0), torch.arange(N), N, [adapter, table])
    torch.manual_seed(1)
    expected = F.cross_entropy(scores.scores_of(torch.arange(N))(query), target)
    after = torch.get_rng_state()
    torch.manual_seed(1)

    loss = recomputed_cross_entropy(scores, query, target)

    assert_close(loss, expected)
    assert torch.equal(torch.get_rng_state(), after)
    assert_close(torch.autograd.grad(loss, query), torch.autograd.grad(expected, query))


def test_candidates_may_be_some_of_the_items_and_parameters_may_be_frozen(inputs):
    query, adapter, table, _ = inputs
    picked, target = torch.tensor([1, 4, 6]), torch.tensor([2, 0, 1, 1, 0])
    table.requires_grad_(False)
    expected = F.cross_entropy(items_of(adapter, table)(picked)(query), target)

    scores = RecomputedScores(items_of(adapter, table), picked, 2, [adapter])
    loss = recomputed_cross_entropy(scores, query, target)

    assert_close(loss, expected)
    assert_close(*(torch.autograd.grad(each, adapter) for each in (loss, expected)))
