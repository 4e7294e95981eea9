import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.training.ranking import RankCollector

TINY = {"epochs": 1, "hidden_size": 8, "inner_size": 8, "show_progress": False}


@pytest.mark.parametrize("model", ["SASRec", "SASRecPlus"])
def test_a_list_longer_than_the_catalog_of_twelve_items_is_refused(toy, model):
    settings = {**toy, **TINY, "metrics": ["NDCG", "ItemCoverage"], "topk": [10, 13]}

    with pytest.raises(ConfigError, match=r"no list of 13 items exists, the catalog has 12;"):
        fit_and_evaluate(load_config(model, config_dict=settings), saved=False)


def test_a_list_of_the_whole_catalog_covers_it_and_ranks_may_be_compared_beyond_it(toy):
    whole = {**toy, **TINY, "metrics": ["NDCG", "ItemCoverage"], "topk": [10, 12]}
    beyond = {**toy, **TINY, "metrics": ["Hit"], "topk": [10, 50], "valid_metric": "Hit@10"}

    covered = fit_and_evaluate(load_config("SASRec", config_dict=whole), saved=False)
    ranked = fit_and_evaluate(load_config("SASRec", config_dict=beyond), saved=False)

    assert covered.test_result["itemcoverage@12"] == pytest.approx(12 / 13, abs=1e-4)
    assert ranked.test_result["hit@50"] == 1


@pytest.mark.parametrize("model", ["SASRec", "SASRecPlus", "Popularity"])
@pytest.mark.parametrize("metrics", [["NDCG", "MRR", "GiniIndex"], ["NDCG", "GAUC"]], ids=str)
def test_metrics_of_batches_in_pieces_are_those_of_whole_batches(toy, model, metrics, monkeypatch):
    settings = {**toy, **TINY, "metrics": metrics, "topk": [1, 5], "valid_metric": "NDCG@5"}
    run = Run(load_config(model, config_dict={**settings, "metric_decimal_place": 9}))
    run.train()
    whole = run.trainer.evaluate(run.splits.test, load_best_model=False)
    calls, collect = [], RankCollector.eval_batch_collect

    def counted(collector, scores, *batch):
        calls.append(len(scores))
        collect(collector, scores, *batch)

    monkeypatch.setattr(RankCollector, "eval_batch_collect", counted)
    monkeypatch.setattr("recbole_mm.training.ranking.SCORES_AT_ONCE", 100)  # of 7 users

    assert run.trainer.evaluate(run.splits.test, load_best_model=False) == whole
    assert sum(calls) == 40 and max(calls) == 7
