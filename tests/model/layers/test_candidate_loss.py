"""Losses equal the cross entropy of the logits of the candidates."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.candidate_loss import TABLE_CANDIDATES, BatchLoss, TableLoss
from recbole_mm.model.layers.item_table import take
from recbole_mm.model.layers.softmax import Additions, dot_products

TRAINED = torch.tensor([0, 1, 0, 1, 1]).bool()
COUNTED = {"trained": [1, 3, 4], "full": [1, 2, 3, 4], "all_rows": [0, 1, 2, 3, 4]}


@pytest.mark.parametrize("candidates", TABLE_CANDIDATES)
def test_the_candidates_are_the_named_items_of_the_table(candidates):
    torch.manual_seed(0)
    loss = TableLoss(candidates, TRAINED)
    items, users, target = torch.randn(5, 3), torch.randn(4, 3), torch.tensor([1, 3, 4, 1])
    chosen = items if loss.rows is None else take(items, loss.rows)

    logits = torch.full((4, 5), -torch.inf)
    logits[:, COUNTED[candidates]] = (users @ items.T)[:, COUNTED[candidates]]

    assert_close(loss(dot_products(chosen), users, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize("candidates", TABLE_CANDIDATES)
def test_additions_for_items_of_a_history_go_to_their_logits(candidates):
    torch.manual_seed(0)
    loss = TableLoss(candidates, TRAINED)
    items, users, target = torch.randn(5, 3), torch.randn(2, 3), torch.tensor([1, 3])
    history = Additions(torch.tensor([[4, 1], [3, 0]]), torch.tensor([[0.5, 2.0], [-1.0, 0.0]]))
    chosen = items if loss.rows is None else take(items, loss.rows)

    logits = (users @ items.T).scatter_add(1, *history)[:, COUNTED[candidates]]
    column = torch.tensor([COUNTED[candidates].index(item) for item in target.tolist()])

    found = loss(dot_products(chosen), users, target, history)
    assert_close(found, F.cross_entropy(logits, column))


def test_other_candidates_are_refused():
    with pytest.raises(ValueError, match="softmax must be one of.*'sampled'"):
        TableLoss("sampled", TRAINED)


def test_losses_are_not_in_a_checkpoint():
    share, domain = torch.full((5,), 0.2), torch.zeros(5)

    assert BatchLoss(True, share, domain).state_dict() == {}
    assert TableLoss("trained", TRAINED).state_dict() == {}


CANDIDATES, OWN = torch.tensor([4, 2, 4, 3]), torch.tensor([0, 1, 2, 3])


def test_targets_of_the_batch_are_the_candidates():
    logits = torch.randn(4, 4)

    assert_close(BatchLoss(False)(logits, CANDIDATES, OWN), F.cross_entropy(logits, OWN))


def test_rows_of_one_process_are_among_those_of_all():
    logits = torch.randn(2, 4)

    found = BatchLoss(False)(logits, CANDIDATES, OWN[2:])

    assert_close(found, F.cross_entropy(logits, torch.tensor([2, 3])))


def test_a_duplicate_of_a_target_is_not_a_negative():
    logits = torch.randn(4, 4)
    expected = logits.clone()
    expected[0, 2] = expected[2, 0] = -torch.inf

    assert_close(BatchLoss(True)(logits, CANDIDATES, OWN), F.cross_entropy(expected, OWN))


def test_targets_of_another_domain_are_not_negatives():
    domain, logits = torch.tensor([-1, 0, 0, 1, 0]), torch.randn(4, 4)
    others = domain[CANDIDATES] != domain[CANDIDATES].unsqueeze(1)

    found = BatchLoss(False, domain=domain)(logits, CANDIDATES, OWN)

    assert_close(found, F.cross_entropy(logits.masked_fill(others, -torch.inf), OWN))


def test_with_shares_a_batch_of_all_interactions_has_the_gradients_of_the_full_softmax():
    """However popular an item is, it counts once."""
    torch.manual_seed(0)
    counts = torch.tensor([0, 1, 5, 2])
    candidates = torch.arange(4).repeat_interleave(counts)
    own = torch.tensor([0, 3, 7])
    scores = torch.randn(3, 4, requires_grad=True)

    loss = BatchLoss(False, counts / counts.sum())(scores[:, candidates], candidates, own)
    full = F.cross_entropy(scores[:, 1:], candidates[own] - 1)

    assert_close(*(torch.autograd.grad(each, scores)[0] for each in (loss, full)))
