"""One setting gives one number, whoever runs it."""

import pytest
from recbole.quick_start import run_recbole
from tiny import TINY, TINY_HSTU, TINY_MMM4REC

from recbole_mm.run.run import run

SETTINGS = {
    "MMM4Rec": TINY_MMM4REC,
    "MISSRec": {**TINY, "n_heads": 1},
    "UniSRec": {**TINY, "n_heads": 1},
    "SASRecPlus": {**TINY, "n_heads": 1},
    "HSTU": {**TINY_HSTU, "n_heads": 1},
}


@pytest.mark.parametrize("model", SETTINGS)
def test_recboles_function_and_the_command_give_the_same_numbers(toy, model):
    settings = {**toy, **SETTINGS[model], "metrics": ["NDCG"], "metric_decimal_place": 9}
    settings |= {"topk": [5, 10], "valid_metric": "NDCG@10"}

    recboles = run_recbole(model=model, config_dict=settings)
    ours = run(model=model, config_dict=settings)

    assert ours.test_result == recboles["test_result"]
    assert ours.best_valid_score == recboles["best_valid_score"]
