"""Lines about a run of this process."""

import pytest

from recbole_mm.run import progress

CONFIG = {"epochs": 10, "valid_metric": "NDCG@10", "valid_metric_bigger": True, "eval_step": 1}


def test_lines_come_now_and_then(monkeypatch):
    clock = iter([0.0, 20.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = []
    tell = progress.EpochLines(CONFIG, lines.append)

    for epoch, score in enumerate((0.5, 0.4, 0.6, 0.3)):
        tell(epoch, score)

    assert lines == [
        "epoch 2 of at most 10, validation NDCG@10 0.4000 (best 0.5000 in epoch 1), at most 3 min left",
        "epoch 4 of at most 10, validation NDCG@10 0.3000 (best 0.6000 in epoch 3), at most 2 min left",
    ]


@pytest.mark.parametrize(
    ("epochs", "seconds", "left"),
    [([6], [60.0], 3), ([6, 7], [60.0, 120.0], 2)],
)
def test_a_resumed_run_estimates_by_its_own_epochs_and_says_that_its_best_is_of_these(
    epochs, seconds, left
):
    history = [
        {"epoch": epoch, "valid_score": 0.5, "seconds": since}
        for epoch, since in zip(epochs, seconds, strict=True)
    ]

    line = progress.describe(history, CONFIG)

    assert "(best since the run was resumed 0.5000 in epoch 7)" in line
    assert line.endswith(f"at most {left} min left")


def test_the_best_may_be_the_smallest():
    history = [
        {"epoch": epoch, "valid_score": score, "seconds": 1.0}
        for epoch, score in enumerate((3, 2, 4))
    ]

    line = progress.describe(history, {**CONFIG, "valid_metric_bigger": False})

    assert "(best 2.0000 in epoch 2)" in line
