"""Lines about runs that go on."""

import json

from recbole_mm.compare.progress import Progress

CONFIG = {"epochs": 10, "valid_metric": "NDCG@10", "valid_metric_bigger": True, "eval_step": 1}


def test_a_line_tells_epoch_scores_and_time_left(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"config": CONFIG}))
    progress = Progress(tmp_path)
    assert progress.line() is None

    history = [
        {"epoch": 0, "valid_score": 0.5, "seconds": 30.0},
        {"epoch": 1, "valid_score": 0.4, "seconds": 60.0},
    ]
    (tmp_path / "epochs.json").write_text(json.dumps(history))

    assert progress.line() == (
        "epoch 2 of at most 10, validation NDCG@10 0.4000 (best 0.5000 in epoch 1), at most 4 min left"
    )
    assert progress.line() is None  # nothing new
