import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.run.run import fit_and_evaluate

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
