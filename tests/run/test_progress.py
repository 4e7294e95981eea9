"""Lines about a run of this process."""

from recbole_mm.run import progress


def test_lines_come_now_and_then(monkeypatch):
    clock = iter([0.0, 20.0, 40.0, 60.0, 80.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    lines = []
    tell = progress.EpochLines({"epochs": 10, "valid_metric": "NDCG@10"}, lines.append)

    for epoch, score in enumerate((0.5, 0.4, 0.6, 0.3)):
        tell(epoch, score)

    assert lines == [
        "epoch 2 of at most 10, validation NDCG@10 0.4000 (best 0.5000 in epoch 1), at most 3 min left",
        "epoch 4 of at most 10, validation NDCG@10 0.3000 (best 0.6000 in epoch 3), at most 2 min left",
    ]
