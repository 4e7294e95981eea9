"""Metrics by counting are those of sorting, one user after another, ties included."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from recbole.evaluator import Evaluator
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.training.ranking import RankCollector

TOPK, N_ITEMS = [1, 2, 5], 7
METRICS = ["Recall", "MRR", "NDCG", "Hit", "Precision", "MAP"]

# few different scores: many ties; the target of a row is one of its items
rows = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=N_ITEMS, max_size=N_ITEMS),
        st.integers(1, N_ITEMS),
    ),
    min_size=1,
    max_size=6,
)


def slow_rank(scores: list[float], target: int) -> int:
    """0-based place of an item in its list: better ones, and half of the equal ones. Where half is
    no whole number, items of odd ids have the place behind it, others the one before."""
    own, others = scores[target], [score for item, score in enumerate(scores) if item != target]
    better = sum(score > own for score in others)
    equal = sum(score == own for score in others)
    return better + (math.ceil(equal / 2) if target % 2 else equal // 2)


def slow_metrics(ranks: list[int]) -> dict[str, float]:
    """Of lists with one relevant item."""
    found = {}
    for k in TOPK:
        hits = [float(rank < k) for rank in ranks]
        gains = [1 / math.log2(rank + 2) if rank < k else 0.0 for rank in ranks]
        reciprocal = [1 / (rank + 1) if rank < k else 0.0 for rank in ranks]
        means = {"hit": hits, "recall": hits, "ndcg": gains, "mrr": reciprocal, "map": reciprocal}
        found |= {f"{name}@{k}": sum(v) / len(v) for name, v in means.items()}
        found[f"precision@{k}"] = sum(hits) / len(hits) / k
    return found


@given(rows)
def test_metrics_are_those_of_a_slow_reference(tmp_path, rows):
    settings = {"data_path": str(tmp_path), "topk": TOPK, "metrics": METRICS}
    config = load_config("MMM4Rec", "x", (), {**settings, "valid_metric": "NDCG@5"})
    collector = RankCollector(config)
    scores = torch.tensor([[-math.inf, *scores] for scores, _ in rows])
    targets = torch.tensor([target for _, target in rows])

    collector.eval_batch_collect(scores, Interaction({}), torch.arange(len(rows)), targets)
    found = Evaluator(config).evaluate(collector.get_data_struct())

    expected = slow_metrics([slow_rank([-math.inf, *scores], target) for scores, target in rows])
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert_close(float(found[name]), value, atol=1e-4, rtol=0)  # RecBole rounds to 4 places
