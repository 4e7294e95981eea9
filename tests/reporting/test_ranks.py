import numpy as np
import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.reporting.metrics import metric_values, parse_metric
from recbole_mm.reporting.ranks import evaluate_ranks
from recbole_mm.run.run import Run

SMALL = {"hidden_size": 8, "inner_size": 8, "n_heads": 1, "MAX_ITEM_LIST_LENGTH": 3}


def prepared(toy, **settings):
    return Run(load_config("SASRec", None, (), {**toy, **SMALL, **settings}))


def test_ranks_give_the_metrics_of_recbole(toy):
    ranks, metrics = evaluate_ranks(prepared(toy, topk=[2, 5], valid_metric="NDCG@5"))

    assert len(ranks) == 40
    for name in ("recall", "ndcg", "mrr", "hit"):
        for k in (2, 5):
            value = metric_values(ranks["rank"].to_numpy(), f"{name}@{k}").mean()
            assert value == pytest.approx(metrics[f"{name}@{k}"], abs=1e-4)
    assert 0 < metrics["itemcoverage@5"] <= 1
    assert metrics["averagepopularity@5"] > 0


def test_a_target_stands_in_its_list_at_its_rank(toy):
    ranks, _ = evaluate_ranks(prepared(toy))

    for item, rank, recommended in ranks.select("item", "rank", "recommended").iter_rows():
        assert len(set(recommended)) == 10
        if rank <= 10:
            assert recommended[rank - 1] == item


def test_history_length_counts_all_events_before_the_target(toy):
    ranks, _ = evaluate_ranks(prepared(toy))

    assert set(ranks["history_length"]) == {6}  # the model sees the last three


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_seen_items_are_masked_when_asked_but_never_the_target(toy, share):
    """Held-out ones too, which models have not read."""
    run = prepared(toy, held_out_items=share)
    free, _ = evaluate_ranks(run)
    masked, _ = evaluate_ranks(run, mask_seen=True)

    seen = {(u, f"i{(int(u[1:]) + s) % 12}") for u in free["user"] for s in range(6)}
    # twelve items, six of them seen: the six others lead, in their order
    assert len(masked) == 40
    shown = [(u, i) for u, r in masked.select("user", "recommended").iter_rows() for i in r[:6]]
    assert not seen & set(shown)
    assert (masked["rank"] <= free["rank"]).all()
    assert masked["rank"].max() <= 6


def test_values_follow_their_definitions():
    ranks = np.array([1, 2, 3, 4])

    assert metric_values(ranks, "Recall@3").tolist() == [1, 1, 1, 0]
    assert metric_values(ranks, "MRR@2").tolist() == [1, 0.5, 0, 0]
    assert metric_values(ranks, "NDCG@3").tolist() == pytest.approx([1, 0.6309297, 0.5, 0])


@pytest.mark.parametrize("metric", ["AUC", "NDCG", "NDCG@0", "Recall@ten"])
def test_a_metric_that_no_rank_gives_is_refused(metric):
    with pytest.raises(ConfigError, match=f"metric '{metric}': write NAME@K"):
        parse_metric(metric)


def test_histories_that_files_hold_are_masked_like_those_of_events(toy, tmp_path):
    folder = tmp_path / "dataset" / "toy"
    head = "user_id:token\titem_id_list:token_seq\titem_id:token"
    rows = [f"u{user}\ti{user % 12} i{(user + 1) % 12}\ti{(user + 2) % 12}" for user in range(12)]
    for part in ("train", "valid", "test"):
        (folder / f"toy.{part}.inter").write_text("\n".join([head, *rows]) + "\n")
    settings = {
        "benchmark_filename": ["train", "valid", "test"], "topk": [5], "valid_metric": "NDCG@5",
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]},
    }  # fmt: skip

    ranks, _ = evaluate_ranks(prepared(toy, **settings), mask_seen=True)

    assert ranks["history_length"].to_list() == [2] * 12
    seen = {row.split("\t")[0]: set(row.split("\t")[1].split()) for row in rows}
    for row in ranks.iter_rows(named=True):
        best = row["recommended"][: len(row["recommended"]) - 2]
        assert not seen[row["user"]] & set(best)
