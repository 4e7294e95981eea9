"""Scores of modalities, weighted by the scores."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers import softmax
from recbole_mm.model.layers.score_fusion import ScoreFusion
from recbole_mm.model.layers.softmax import candidate_cross_entropy

B, N, D = 3, 5, 4
ONE = torch.tensor(1.0).double()


def inputs(n_modalities):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(B, D, generator=generator).double()
    embeddings = torch.randn(n_modalities, N, D, generator=generator).double()
    return query, list(embeddings)


def fusion(mode, n_modalities, factor=1.7):
    module = ScoreFusion(mode, n_modalities, N).double()
    if module.factor is not None:
        with torch.no_grad():
            module.factor.copy_(torch.tensor(factor) * torch.ones_like(module.factor))
            if mode == "dynamic_instance":
                module.factor += torch.arange(N)
    return module


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("mode", ["static", "dynamic_shared", "dynamic_instance"])
def test_it_is_the_sum_of_scores_times_the_softmax_of_the_scaled_scores(mode, n_modalities):
    query, embeddings = inputs(n_modalities)
    module = fusion(mode, n_modalities)
    factor = 0.0 if module.factor is None else module.factor

    scores = torch.stack([query @ e.T for e in embeddings])
    expected = (scores * (scores * factor).softmax(0)).sum(0)

    assert_close(module(embeddings, ONE)(query), expected)


@pytest.mark.parametrize("n_modalities", [2, 3])
@pytest.mark.parametrize("mode", ["static", "dynamic_shared", "dynamic_instance"])
def test_an_item_is_scored_by_the_modalities_that_it_has(mode, n_modalities):
    query, embeddings = inputs(n_modalities)
    module = fusion(mode, n_modalities)
    available = torch.ones(N, n_modalities, dtype=torch.bool)
    available[0, 1:] = False
    available[1] = False
    for m, e in enumerate(embeddings):
        e[~available[:, m]] = 0
        e.requires_grad_()

    fused = module(embeddings, ONE, available)(query)
    fused.square().sum().backward()

    assert_close(fused[:, 0], query @ embeddings[0][0])
    assert (fused[:, 1] == 0).all()
    assert_close(fused[:, 2:], module(embeddings, ONE)(query)[:, 2:])
    assert all(e.grad.isfinite().all() for e in embeddings)


@pytest.mark.parametrize("mode", ["static", "dynamic_shared", "dynamic_instance"])
def test_some_items_are_scored_as_in_the_whole_table(mode):
    query, embeddings = inputs(2)
    module, item_id = fusion(mode, 2), torch.tensor([4, 0, 4])

    some = module([e[item_id] for e in embeddings], ONE, item_id=item_id)(query)

    assert_close(some, module(embeddings, ONE)(query)[:, item_id])


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("mode", ["static", "dynamic_shared", "dynamic_instance"])
def test_scaled_scores_are_the_scores_times_the_scale(mode, n_modalities):
    query, embeddings = inputs(n_modalities)
    module, scale = fusion(mode, n_modalities), torch.linspace(0.3, 5, N).double()

    assert_close(module(embeddings, scale)(query), module(embeddings, ONE)(query) * scale)


@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("mode", ["static", "dynamic_shared", "dynamic_instance"])
def test_the_cross_entropy_in_blocks_equals_that_of_all_scores(mode, n_modalities, monkeypatch):
    """Value and gradients, with items that lack a modality and added vectors."""
    monkeypatch.setattr(softmax, "LOGITS_PER_BLOCK", N)
    monkeypatch.setattr(softmax, "ROWS_PER_BLOCK", 1)
    query, embeddings = inputs(n_modalities)
    module, target = fusion(mode, n_modalities), torch.tensor([4, 0, 2])
    added, scale = query.new_ones(N, D), torch.linspace(0.3, 5, N).double()
    available = torch.ones(N, n_modalities, dtype=torch.bool)
    available[0, 1:] = False
    embeddings = [e * a.unsqueeze(-1) for e, a in zip(embeddings, available.T, strict=True)]
    learned = [t.requires_grad_() for t in (query, added, scale, *embeddings)]
    learned += module.parameters()

    scores = module(embeddings, scale, available, added=added)
    whole = F.cross_entropy(scores(query), target)
    loss = candidate_cross_entropy(scores, query, target)

    expected = torch.autograd.grad(3 * whole, learned, retain_graph=True)
    assert_close(loss, whole)
    assert_close(torch.autograd.grad(3 * loss, learned), expected)


def test_every_mode_starts_as_the_mean():
    query, embeddings = inputs(2)
    mean = (query @ embeddings[0].T + query @ embeddings[1].T) / 2

    for mode in ("static", "dynamic_shared", "dynamic_instance"):
        assert_close(ScoreFusion(mode, 2, N).double()(embeddings, ONE)(query), mean)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="item_mm_fusion must be one of .*'learned'"):
        ScoreFusion("learned", 2, N)
