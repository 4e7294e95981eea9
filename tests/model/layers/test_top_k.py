import pytest
import torch

from recbole_mm.model.layers.top_k import CHUNK, WORTHWHILE, top_k


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
