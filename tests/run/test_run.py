import logging
from pathlib import Path

import pytest
import torch
from recbole.quick_start import run_recbole
from tiny import TINY, TINY_MMM4REC

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run, fit_and_evaluate, objective_function, run
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.training.ranking import ScoresAreNaN
from recbole_mm.training.recorded import LossIsNaN
from recbole_mm.training.trainer import MultiModalTrainer
from recbole_mm.transfer.pretrained import TransferError


@pytest.fixture
def pretrained(toy):
    config = load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, "epochs": 1})
    return fit_and_evaluate(config, verbose=False).checkpoint


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_a_loss_that_is_not_a_number_is_an_error_of_its_own_type(toy, model, monkeypatch):
    settings = TINY_MMM4REC if model == "MMM4Rec" else TINY
    run = Run(load_config(model, config_dict={**toy, **settings}))
    monkeypatch.setattr(run.model, "calculate_loss", lambda _: torch.tensor(float("nan")))

    with pytest.raises(LossIsNaN, match=f"{model} is not a number in epoch 0: lower learning_rate"):
        run.train()
    assert issubclass(LossIsNaN, RunFailed)


@pytest.mark.parametrize("model", ["UniSRec", "SASRec"])
def test_scores_that_are_not_numbers_are_an_error_and_not_a_rank_behind_all(
    toy, model, monkeypatch
):
    run = Run(load_config(model, config_dict={**toy, **TINY}))
    predict = run.model.full_sort_predict
    nan_for_one = torch.zeros(40, 1).index_fill(0, torch.tensor([3]), torch.nan)
    monkeypatch.setattr(
        run.model, "full_sort_predict", lambda batch: predict(batch).view(40, -1) + nan_for_one
    )

    with pytest.raises(ScoresAreNaN, match=f"scores of {model} are not numbers for 1 targets: low"):
        run.train()
    assert issubclass(ScoresAreNaN, RunFailed)


@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_run_says_what_is_kept_of_it(toy, epoch, monkeypatch):
    train_epoch = MultiModalTrainer._train_epoch

    def interrupted(self, train_data, epoch_idx, *args, **kwargs):
        if epoch_idx == epoch:
            raise KeyboardInterrupt
        return train_epoch(self, train_data, epoch_idx, *args, **kwargs)

    monkeypatch.setattr(MultiModalTrainer, "_train_epoch", interrupted)

    with pytest.raises(KeyboardInterrupt) as raised:
        run("MMM4Rec", config_dict={**toy, **TINY_MMM4REC})

    checkpoints = [f"the best epoch so far is {path}" for path in Path("saved").glob("*.pth")]
    assert len(checkpoints) == epoch
    kept = checkpoints[0] if epoch else "no epoch is kept"
    assert str(raised.value) == f"{kept}; the same command starts over"


def test_the_point_of_a_search_is_read_like_a_command_line_and_names_are_text(toy, tmp_path):
    folder = tmp_path / "dataset"
    (folder / "toy").rename(folder / "1e3")
    for path in (folder / "1e3").iterdir():
        path.rename(path.with_name(path.name.replace("toy", "1e3")))
    point = {**toy, "model": "Popularity", "dataset": "1e3", "topk": "[3]", "valid_metric": "MRR@3"}

    result = objective_function(point)

    assert result["dataset"] == "1e3"
    assert "ndcg@3" in result["test_result"]


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_every_validated_epoch_is_in_the_history_whatever_the_trainer(toy, model):
    settings = TINY_MMM4REC if model == "MMM4Rec" else TINY
    result = fit_and_evaluate(load_config(model, config_dict={**toy, **settings}), verbose=False)

    assert [entry["epoch"] for entry in result.history] == [0, 1]
    seconds = [entry["seconds"] for entry in result.history]
    assert 0 < seconds[0] < seconds[1] <= result.seconds


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec", "TransitionGraph"])
def test_a_run_has_the_parameters_that_it_loads(toy, model):
    settings = {"MMM4Rec": TINY_MMM4REC, "SASRec": TINY}.get(model, {})
    trained = Run(load_config(model, config_dict={**toy, **settings}))
    trained.train()
    result = trained.test()

    run = Run(load_config(model, config_dict={**toy, **settings, "seed": 7}))
    run.load(result.checkpoint)

    batch = next(iter(run.splits.test))[0]
    trained.model.eval()
    run.model.eval()
    with torch.no_grad():
        scores = run.model.full_sort_predict(batch)
        torch.testing.assert_close(scores, trained.model.full_sort_predict(batch))


def test_a_damaged_checkpoint_is_not_loaded(toy, tmp_path):
    (tmp_path / "best.pth").write_bytes(b"nothing")
    run = Run(load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC}))

    with pytest.raises(UserError, match="best.pth: not a checkpoint of .*MMM4Rec"):
        run.load(tmp_path / "best.pth")


def test_recboles_own_door_starts_from_the_pre_trained_model(toy, pretrained, caplog):
    caplog.set_level(logging.INFO)
    given = {**toy, **TINY_MMM4REC, "pre_model_path": pretrained, "freeze": ["encoder_layers.*"]}
    run_recbole("MMM4Rec", toy["dataset"], config_dict=given)

    assert "transferred" in caplog.text
    start = torch.load(pretrained, weights_only=True)["state_dict"]
    run = Run(load_config("MMM4Rec", config_dict=given))
    frozen = {n: p for n, p in run.model.named_parameters() if n.startswith("encoder_layers.")}
    assert not any(p.requires_grad for p in frozen.values())
    for name, parameter in frozen.items():
        torch.testing.assert_close(parameter.detach(), start[name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"pre_model_path": "no.pth"}, "no.pth"), ({"freeze": ["encoderlayer"]}, "encoderlayer")],
)
def test_recboles_own_door_refuses_a_start_that_is_not_possible(toy, wrong, message):
    with pytest.raises(TransferError, match=message):
        run_recbole("MMM4Rec", toy["dataset"], config_dict={**toy, **TINY_MMM4REC, **wrong})


def test_a_trainer_made_for_a_loaded_checkpoint_leaves_its_weights(toy, pretrained):
    given = {**toy, **TINY_MMM4REC, "pre_model_path": pretrained}
    config = load_config("MMM4Rec", config_dict=given)
    run = Run(config)
    with torch.no_grad():
        run.model.adapters["text"].weight.fill_(0.5)

    type(run.trainer)(config, run.model)

    assert (run.model.adapters["text"].weight == 0.5).all()
