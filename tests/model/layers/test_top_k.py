import pytest
import torch

from recbole_mm.model.layers.top_k import CHUNK, WORTHWHILE, BestSoFar, top_k


@pytest.mark.parametrize("n", [3, CHUNK, 3 * WORTHWHILE * CHUNK, 3 * WORTHWHILE * CHUNK + 5, 5000])
def test_the_largest_scores_are_those_of_torch(n):
    scores = torch.randn(20, n, generator=torch.Generator().manual_seed(n))
    scores[0, n // 2 :] = -torch.inf
    scores[1] = -torch.inf
    scores[2, -1], scores[3, 0] = 9.0, 9.0
    expected = scores.topk(3, dim=1)

    values, columns = top_k(scores, 3)

    assert values.equal(expected.values)
    assert scores.gather(1, columns).equal(values)
    assert columns[2:].equal(expected.indices[2:])


def test_equal_scores_are_listed_once_each():
    n = 2 * 3 * WORTHWHILE * CHUNK
    values, columns = top_k(torch.ones(2, n), 3)

    assert values.equal(torch.ones(2, 3))
    assert all(len(set(row)) == 3 for row in columns.tolist())


@pytest.mark.parametrize("size", [1, 7, 300, 2000])
@pytest.mark.parametrize("k", [1, 10])
def test_block_by_block_the_largest_scores_are_those_of_all(size, k):
    scores = torch.randn(20, 1500, generator=torch.Generator().manual_seed(size))
    scores[0], scores[1, 5:] = -torch.inf, -torch.inf
    scores[2], scores[3] = 1.0, torch.arange(1500.0)  # equal, and ever better ones
    expected = scores.topk(k, dim=1)

    best = BestSoFar(20, k, scores)
    for first in range(0, 1500, size):
        best.add(scores[:, first : first + size], first)
    values, columns = best.result()

    assert values.equal(expected.values)
    assert scores.gather(1, columns)[2:].equal(values[2:])
    assert all(len(set(row)) == k for row in columns[2:].tolist())
    assert columns[2].tolist() == list(range(k))
    assert sum(len(rows) for rows, *_ in best.kept) <= best.most_kept


def test_columns_within_the_slack_are_ranked_by_their_exact_scores():
    exact = torch.randn(20, 5000, generator=torch.Generator().manual_seed(0))
    exact[0, 10:], exact[1] = -torch.inf, -torch.inf
    rounded = torch.where(exact.isfinite(), (10 * exact).round(), -(2.0**31)).int()

    best = BestSoFar(20, 5, rounded, slack=torch.full((20,), 1, dtype=torch.int32))
    for first in range(0, 5000, 700):
        best.add(rounded[:, first : first + 700], first)
    values, columns = best.result(lambda row, column: exact[row, column])

    expected = exact.topk(5, dim=1)
    assert values.equal(expected.values)
    assert columns[:1].equal(expected.indices[:1]) and columns[2:].equal(expected.indices[2:])
    assert not best.is_crowded


def test_a_slack_that_leaves_everything_gives_no_result():
    best = BestSoFar(3, 1, torch.zeros(1, dtype=torch.int32), torch.ones(3, dtype=torch.int32))

    for first in range(0, 80 * CHUNK, CHUNK):
        best.add(torch.zeros(3, CHUNK, dtype=torch.int32), first)

    assert best.is_crowded
    assert best.kept == []
