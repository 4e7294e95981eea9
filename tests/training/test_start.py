"""The start of training is validated, and kept if no epoch is better."""

import pytest
from tiny import PRETRAIN, TINY, TINY_MMM4REC

from recbole_mm.config.load import load_config
from recbole_mm.model.layers.interest import Interests
from recbole_mm.run.result import START
from recbole_mm.run.result_tables import result_table
from recbole_mm.run.run import Run

WITHOUT_ID = {"use_item_id": False}
HARMFUL = {"learning_rate": 10.0, "epochs": 2, "ema_epochs": 0, **WITHOUT_ID}


def trained(toy, **settings):
    run = Run(load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, **settings}))
    run.train(verbose=False)
    return run


@pytest.fixture
def pretrained(toy):
    """A checkpoint whose weights rank well."""
    run = trained(toy, **PRETRAIN, epochs=6, learning_rate=0.01)
    return {"pre_model_path": run.test().checkpoint}


def test_training_that_harms_leaves_the_pre_trained_model(toy, pretrained):
    run = trained(toy, **pretrained, **HARMFUL)
    result = run.test()

    start = trained(toy, **pretrained, **WITHOUT_ID, epochs=0).test()
    assert result.best_epoch == START
    assert [entry["epoch"] for entry in result.history] == [-1, 0, 1]
    assert result.best_valid_result == start.best_valid_result
    assert result.test_result == start.test_result
    assert "best: start, the model before training" in result_table(result)


def test_an_epoch_that_is_better_is_kept(toy):
    result = trained(toy, epochs=6, learning_rate=0.01, validate_start=True).test()

    scores = {entry["epoch"]: entry["valid_score"] for entry in result.history}
    assert result.best_epoch >= 0
    assert result.best_valid_score == scores[result.best_epoch] > scores[-1]


@pytest.mark.parametrize("settings", [{"validate_start": False}, {"pre_model_path": None}])
def test_no_start_is_validated_without_need(toy, pretrained, settings):
    result = trained(toy, **{**pretrained, **settings, "epochs": 1}).test()

    assert [entry["epoch"] for entry in result.history] == [0]


def test_a_start_that_cannot_be_kept_is_not_validated(toy, pretrained):
    run = Run(load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, **pretrained}))

    run.train(saved=False, verbose=False)

    assert [entry["epoch"] for entry in run.trainer.history] == [0, 1]


def test_an_interrupted_training_remembers_its_start(toy, pretrained, tmp_path):
    settings = {**pretrained, **HARMFUL, "checkpoint_dir": str(tmp_path)}

    def run_of():
        run = Run(load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, **settings}))
        run.keep_progress(tmp_path / "best.pth", tmp_path / "latest.pth")
        return run

    expected = trained(toy, **settings).test()
    run = run_of()

    def interrupt(epoch, _):
        if epoch == 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.train(verbose=False, on_validation=interrupt)
    run = run_of()
    run.train(verbose=False)
    result = run.test()

    assert result.best_epoch == expected.best_epoch == -1
    assert result.test_result == expected.test_result
    curves = [[(e["epoch"], e["valid_score"]) for e in r.history] for r in (result, expected)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("validate_start", [False, True])
def test_the_interests_of_the_first_epoch_are_clustered_once(validate_start, toy, monkeypatch):
    clusterings, update = [], Interests.update

    def counted(*arguments):
        clusterings.append(0)
        update(*arguments)

    monkeypatch.setattr(Interests, "update", counted)
    settings = {**toy, **TINY, "n_heads": 2, "epochs": 3, "validate_start": validate_start}
    Run(load_config("MISSRec", config_dict=settings)).train(verbose=False)

    assert len(clusterings) == 3
