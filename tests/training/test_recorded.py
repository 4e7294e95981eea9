"""What every trainer of a run refuses to save."""

from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run
from recbole_mm.training.recorded import LossIsNaN

SETTINGS = {"MMM4Rec": TINY_MMM4REC, "SASRec": TINY}


@pytest.mark.parametrize("model", SETTINGS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_parameters_that_the_last_step_of_an_epoch_breaks_are_not_saved(toy, model, value):
    run = Run(load_config(model, config_dict={**toy, **SETTINGS[model], "epochs": 1}))
    broken = next(run.model.parameters())
    steps = []

    def break_it(*_):
        steps.append(0)
        if len(steps) == len(run.splits.train):
            broken.data.view(-1)[0] = value

    run.trainer.optimizer.register_step_post_hook(break_it)

    with pytest.raises(
        LossIsNaN,
        match=rf"1 parameters of {model} are NaN or infinite after epoch 0, e\.g\. \S+: lower "
        r"learning_rate \(0.001\), set clip_grad_norm",
    ):
        run.train()

    assert not Path(run.trainer.saved_model_file).exists()


@pytest.mark.parametrize("model", SETTINGS)
def test_a_checkpoint_that_does_not_fit_on_the_disk_ends_with_status_1(
    toy, model, capsys, almost_full_disk
):
    values = {"model": model, **toy, **SETTINGS[model], "hidden_size": 64, "inner_size": 64}
    if model == "MMM4Rec":
        values["head_dim"] = 64

    with almost_full_disk():
        assert main([f"--{key}={value}" for key, value in values.items()]) == 1

    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"recbole-mm: error: saved/{model}-")
    assert "cannot be written" in message and "is the disk full?" in message
    assert not list(Path("saved").glob("*"))


@pytest.mark.parametrize("model", SETTINGS)
def test_a_save_that_fails_leaves_the_checkpoint_before(toy, model, monkeypatch):
    run = Run(load_config(model, config_dict={**toy, **SETTINGS[model], "epochs": 1}))
    run.train()
    path = Path(run.trainer.saved_model_file)
    before = path.read_bytes()

    def full(_, file, **__):
        Path(getattr(file, "name", file)).write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(RuntimeError, match="An earlier file of this name is unchanged"):
        run.trainer._save_checkpoint(1)

    assert path.read_bytes() == before
    assert [file for file in path.parent.iterdir() if ".tmp" in file.name] == []
