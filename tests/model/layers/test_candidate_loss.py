"""Losses equal the cross entropy of the logits of the candidates."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.candidate_loss import (
    TABLE_CANDIDATES,
    BatchLoss,
    SampledLoss,
    TableLoss,
    Targets,
)
from recbole_mm.model.layers.item_table import take
from recbole_mm.model.layers.softmax import Additions, dot_products

TRAINED = torch.tensor([0, 1, 0, 1, 1]).bool()
ELIGIBLE = TRAINED.nonzero().squeeze(1)
COUNTED = {"trained": [1, 3, 4], "full": [1, 2, 3, 4], "all_rows": [0, 1, 2, 3, 4]}


def scores_of(items):
    return lambda rows: dot_products(items if rows is None else take(items, rows))


@pytest.mark.parametrize("candidates", TABLE_CANDIDATES)
def test_the_candidates_are_the_named_items_of_the_table(candidates):
    torch.manual_seed(0)
    loss = TableLoss(candidates, TRAINED)
    items, users, target = torch.randn(5, 3), torch.randn(4, 3), torch.tensor([1, 3, 4, 1])

    logits = torch.full((4, 5), -torch.inf)
    logits[:, COUNTED[candidates]] = (users @ items.T)[:, COUNTED[candidates]]

    found = loss(scores_of(items), Targets(users, target))
    assert_close(found, F.cross_entropy(logits, target))


@pytest.mark.parametrize("candidates", TABLE_CANDIDATES)
def test_additions_for_items_of_a_history_go_to_their_logits(candidates):
    torch.manual_seed(0)
    loss = TableLoss(candidates, TRAINED)
    items, users, target = torch.randn(5, 3), torch.randn(2, 3), torch.tensor([1, 3])
    value = torch.tensor([[0.5, 2.0, 3.0], [-1.0, 0.0, 4.0]])
    history = Additions(torch.tensor([[4, 1, 2], [3, 0, 2]]), value)

    logits = (users @ items.T).scatter_add(1, *history)[:, COUNTED[candidates]]
    column = torch.tensor([COUNTED[candidates].index(item) for item in target.tolist()])

    found = loss(scores_of(items), Targets(users, target, history))
    assert_close(found, F.cross_entropy(logits, column))


@pytest.mark.parametrize("candidates", ["trained", "full"])
def test_the_candidates_of_a_domain(candidates):
    torch.manual_seed(0)
    domain = torch.tensor([-1, 1, 0, 0, 1])  # the items 1, 4 and 2, 3
    loss = TableLoss(candidates, TRAINED, domain)
    items, users, target = torch.randn(5, 3), torch.randn(3, 3), torch.tensor([1, 3, 4])
    column = torch.tensor([[4, 0, 2], [3, 0, 4], [1, 4, 3]])  # some of the other domain
    history = Additions(column, torch.randn(3, 3))
    history.value[:2, 1] = 0

    found = loss(scores_of(items), Targets(users, target, history))
    counts = torch.tensor([True, False, True])
    counted = loss(scores_of(items), Targets(users, target, history, counts))

    logits = (users @ items.T).scatter_add(1, *history)
    others = domain != domain[target].unsqueeze(1)
    if candidates == "trained":
        others |= ~TRAINED
    logits = logits.masked_fill(others, -torch.inf)
    assert [group.tolist() for group, _ in loss.groups(target)] == [[1], [0, 2]]
    assert_close(found, F.cross_entropy(logits, target))
    assert_close(counted, F.cross_entropy(logits[counts], target[counts]))


def test_the_padding_item_has_no_domain():
    with pytest.raises(ValueError, match="all_rows, has no domain"):
        TableLoss("all_rows", TRAINED, torch.tensor([-1, 0, 0, 1, 1]))


def test_other_candidates_are_refused():
    with pytest.raises(ValueError, match="softmax must be one of.*'sampled'"):
        TableLoss("sampled", TRAINED)


def test_losses_are_not_in_a_checkpoint():
    share, domain = torch.full((5,), 0.2), torch.zeros(5)

    assert BatchLoss(True, share, domain).state_dict() == {}
    assert TableLoss("trained", TRAINED).state_dict() == {}
    assert SampledLoss(ELIGIBLE, 3, share).state_dict() == {}


CANDIDATES, OWN = torch.tensor([4, 2, 4, 3]), torch.tensor([0, 1, 2, 3])


def test_targets_of_the_batch_are_the_candidates():
    logits = torch.randn(4, 4)

    assert_close(BatchLoss(False).of_logits(logits, CANDIDATES, OWN), F.cross_entropy(logits, OWN))


def test_rows_of_one_process_are_among_those_of_all():
    logits = torch.randn(2, 4)

    found = BatchLoss(False).of_logits(logits, CANDIDATES, OWN[2:])

    assert_close(found, F.cross_entropy(logits, torch.tensor([2, 3])))


def test_a_duplicate_of_a_target_is_not_a_negative():
    logits = torch.randn(4, 4)
    expected = logits.clone()
    expected[0, 2] = expected[2, 0] = -torch.inf

    assert_close(BatchLoss(True).of_logits(logits, CANDIDATES, OWN), F.cross_entropy(expected, OWN))


def test_targets_of_another_domain_are_not_negatives():
    domain, logits = torch.tensor([-1, 0, 0, 1, 0]), torch.randn(4, 4)
    others = domain[CANDIDATES] != domain[CANDIDATES].unsqueeze(1)

    found = BatchLoss(False, domain=domain).of_logits(logits, CANDIDATES, OWN)

    assert_close(found, F.cross_entropy(logits.masked_fill(others, -torch.inf), OWN))


def test_with_shares_a_batch_of_all_interactions_has_the_gradients_of_the_full_softmax():
    """However popular an item is, it counts once."""
    torch.manual_seed(0)
    counts = torch.tensor([0, 1, 5, 2])
    candidates = torch.arange(4).repeat_interleave(counts)
    own = torch.tensor([0, 3, 7])
    scores = torch.randn(3, 4, requires_grad=True)

    loss = BatchLoss(False, counts / counts.sum()).of_logits(scores[:, candidates], candidates, own)
    full = F.cross_entropy(scores[:, 1:], candidates[own] - 1)

    assert_close(*(torch.autograd.grad(each, scores)[0] for each in (loss, full)))


SHARES = torch.tensor([0, 0.5, 0, 0.3, 0.2])
USERS = torch.empty(0)  # whose logits are given


def test_a_sample_has_the_targets_and_items_that_can_be_drawn():
    torch.manual_seed(0)
    loss = SampledLoss(ELIGIBLE, 2, SHARES)

    for _ in range(20):
        candidates, drawn = loss.draw(torch.tensor([2, 2]))
        assert candidates.tolist() == sorted({2, *candidates[drawn].tolist()})
        assert {2} <= set(candidates.tolist()) <= {1, 2, 3, 4}
        assert not drawn[candidates == 2]


def test_over_many_samples_the_loss_has_the_gradient_of_all_items():
    """With the correction for how likely an item is in the sample; without, popular items would be
    pushed down."""
    torch.manual_seed(0)
    share = torch.tensor([0, 0.55, 0.3, 0.1, 0.05]).double()
    loss = SampledLoss(torch.arange(1, 5), 1, share)
    logits = torch.tensor([[0.3, -0.2, 0.5, 0.1]]).double()
    full = logits.softmax(1)[0]
    mean = torch.zeros(4).double()
    for _ in range(4000):
        # the row's target is item 3; a further row makes popular items likely candidates
        other = 1 + torch.multinomial(share[1:], 1)
        given = logits.clone().requires_grad_()
        target = torch.cat([torch.tensor([3]), other])
        candidates, drawn = loss.draw(target)
        chosen = given[:, candidates - 1].expand(2, -1)
        row = 2 * loss.of_logits(chosen, candidates, drawn, Targets(USERS, target))
        row = row - loss.of_logits(chosen[1:], candidates, drawn, Targets(USERS, other))
        (grad,) = torch.autograd.grad(row, given)
        mean += grad[0] / 4000
    # an estimate with so few negatives is biased; the order of the pushes is right
    assert mean[2] < 0
    assert (mean[[0, 1, 3]] > 0).all()
    ratio = mean[0] / mean[3]
    assert 0.5 < ratio / (full[0] / full[3]) < 2


def test_all_items_in_the_sample_give_the_full_softmax():
    torch.manual_seed(0)
    loss = SampledLoss(ELIGIBLE, 10_000, SHARES)
    target, logits = torch.tensor([1, 4]), torch.randn(2, 3)

    candidates, drawn = loss.draw(target)

    assert candidates.tolist() == [1, 3, 4]
    expected = F.cross_entropy(logits, torch.tensor([0, 2]))
    assert_close(loss.of_logits(logits, candidates, drawn, Targets(USERS, target)), expected)


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_the_binary_cross_entropy_with_a_power_of_the_targets_probability(t):
    torch.manual_seed(0)
    loss = SampledLoss(torch.arange(1, 11), 3, torch.full((11,), 0.1), t)
    candidates, drawn = torch.tensor([2, 5, 7, 9]), torch.tensor([True, False, True, True])
    target, logits = torch.tensor([2, 5]), torch.randn(2, 4)

    power = (1 - t) + t * 3 / 9
    p = (logits - math.log(9)).sigmoid()  # nine other items
    first = -power * p[0, 0].log() - (1 - p[0, [2, 3]]).log().sum()  # drawn, but its own target
    second = -power * p[1, 1].log() - (1 - p[1, [0, 2, 3]]).log().sum()
    assert_close(
        loss.of_logits(logits, candidates, drawn, Targets(USERS, target)), (first + second) / 2
    )


@pytest.mark.parametrize("calibration", [None, 0.75])
def test_additions_go_to_the_sampled_items_of_the_history(calibration):
    torch.manual_seed(0)
    loss = SampledLoss(ELIGIBLE, 3, SHARES, calibration)
    candidates, drawn = torch.tensor([1, 3, 4]), torch.tensor([True, True, False])
    target, logits = torch.tensor([1, 4]), torch.randn(2, 3)
    history = Additions(torch.tensor([[4, 2], [3, 0]]), torch.tensor([[0.5, 2.0], [-1.0, 0.0]]))
    changed = logits.clone()
    changed[0, 2] += 0.5
    changed[1, 1] -= 1.0

    found = loss.of_logits(logits, candidates, drawn, Targets(USERS, target, history))

    assert_close(found, loss.of_logits(changed, candidates, drawn, Targets(USERS, target)))


def test_a_sample_of_one_item_is_refused():
    with pytest.raises(ValueError, match="needs two items with a training interaction"):
        SampledLoss(torch.tensor([3]), 2, SHARES)
