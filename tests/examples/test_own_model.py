"""A model outside the package goes every way that one of its own goes."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from recbole.quick_start import load_data_and_model, run_recbole

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.own_models import VARIABLE
from recbole_mm.register import register_model

MODEL = "own_model:RecentMean"
TINY = {"epochs": 1, "hidden_size": 8, "MAX_ITEM_LIST_LENGTH": 5, "show_progress": False}


@pytest.fixture(autouse=True)
def example(repository, tmp_path, monkeypatch):
    """The example in the working directory, known to nobody yet."""
    for name in ("own_model.py", "RecentMean.yaml"):
        shutil.copy(repository / "examples" / name, tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_model", raising=False)
    yield
    sys.modules.pop("own_model", None)


def options(**values) -> list[str]:
    return [f"--{key}={value}" for key, value in values.items()]


def test_it_runs_by_the_command(toy, capsys):
    status = main([f"--model={MODEL}", *options(**toy, **TINY)])

    assert status == 0
    assert capsys.readouterr().out.startswith("RecentMean on toy")
    assert len(list(Path("saved").glob("RecentMean-*.pth"))) == 1


def test_it_finds_the_planted_order(toy):
    learned = {**TINY, "epochs": 60, "learning_rate": 0.03, "n_recent": 1}

    result = run_recbole(MODEL, toy["dataset"], config_dict={**toy, **learned})

    assert result["test_result"]["ndcg@10"] > 0.8


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--n_recent=0", "'n_recent' is 0; it must be a whole number >= 1 (default: 3)"),
        ("--softmax=half", "'softmax' is 'half'; it must be one of trained, full, all_rows"),
        ("--n_recnt=1", "unknown key 'n_recnt'; did you mean 'n_recent'"),
    ],
)
def test_its_keys_are_checked_by_its_yaml(toy, capsys, option, message):
    assert main([f"--model={MODEL}", *options(**toy), option]) == 2
    assert message in capsys.readouterr().err


def test_it_is_pre_trained_and_transferred(toy, capsys):
    stages = [
        {"train_stage": "pretrain", "use_item_id": False, "softmax": "in_batch"},
        {"train_stage": "finetune", "freeze": ["output.*"]},
    ]
    Path("stages.yaml").write_text(yaml.safe_dump({"model": MODEL, **toy, "stages": stages}))

    assert main(["--config_files=stages.yaml", *options(**TINY)]) == 0

    assert "finetune on toy with ID, transferred" in capsys.readouterr().out


def test_it_is_tuned_and_the_best_file_runs(toy):
    pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")
    Path("RecentMean.hyper").write_text("n_recent choice [1]\n")

    options_ = options(**toy, **TINY, budget=1, tool="hyperopt")  # which draws from the space alone
    assert main(["tune", f"--model={MODEL}", *options_]) == 0

    best = Path("tuning/RecentMean-toy/best.yaml")
    config = load_config(config_files=[best])
    assert (config["model"], config["n_recent"]) == ("RecentMean", 1)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_it_is_compared_in_processes_of_their_own(toy):
    pytest.importorskip("matplotlib", reason="a comparison needs recbole_mm[report]")
    entries = f"--models={MODEL},{MODEL}+n_recent=1"

    assert main(["compare", entries, "--seeds=1", *options(**toy, **TINY)]) == 0

    report = Path("compare/toy-leave_one_out/report.md").read_text()
    assert "RecentMean+n_recent=1" in report


def test_recboles_own_functions_take_it(toy):
    result = run_recbole(MODEL, toy["dataset"], config_dict={**toy, **TINY})

    (path,) = Path("saved").glob("RecentMean-*.pth")
    config, model, *_ = load_data_and_model(path)
    assert type(model).__name__ == "RecentMean"
    assert config["n_recent"] == 3
    assert result["test_result"]["ndcg@10"] > 0


def test_recboles_config_checks_its_values_too(toy):
    with pytest.raises(ConfigError, match="config_dict: 'n_recent' is 0; it must be a whole"):
        run_recbole(MODEL, toy["dataset"], config_dict={**toy, **TINY, "n_recent": 0})


def test_a_class_can_be_registered_itself(toy):
    sys.path.append("")
    from own_model import RecentMean

    assert register_model(RecentMean) == "RecentMean"
    assert load_config("RecentMean", config_dict=toy)["n_recent"] == 3


def test_a_checkpoint_imports_no_module(toy, python):
    """In a process that has not named the model, and by a checkpoint that names its module."""
    run_recbole(MODEL, toy["dataset"], config_dict={**toy, **TINY})
    (path,) = Path("saved").glob("RecentMean-*.pth")
    checkpoint = torch.load(path, weights_only=True)
    for name in ("RecentMean", MODEL):
        checkpoint["config"]["model"] = name
        torch.save(checkpoint, "given.pth")
        program = (
            "import sys, recbole_mm\n"
            "from recbole.quick_start import load_data_and_model\n"
            "try:\n"
            "    load_data_and_model('given.pth')\n"
            "except ValueError as error:\n"
            "    print(error)\n"
            "print('own_model' in sys.modules)\n"
        )

        environment = {"PYTHONPATH": ":".join(filter(None, [*sys.path, "."]))}
        done = subprocess.run(
            [*python, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

        *_, message, imported = done.stdout.splitlines()
        assert imported == "False"
        assert "--model=" in message
