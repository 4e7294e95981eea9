"""How a command ends, whatever is raised in it."""

import importlib
import importlib.machinery
import re
import signal
import subprocess
import sys
import types
from types import SimpleNamespace

import pytest
import torch
from tqdm import tqdm

from recbole_mm.cli import main
from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import RunFailed, UserError


def ending(error: BaseException, monkeypatch, capsys, *, on_import: bool) -> tuple[int, str]:
    """Status and stderr of a command in which an error is raised."""

    def fail(_):
        raise error

    def import_module(_):
        if on_import:
            raise error
        return SimpleNamespace(main=fail)

    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", import_module)
        status = main(["train", "--model=SASRec"])
    return status, capsys.readouterr().err


@pytest.mark.parametrize("on_import", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (UserError("file.csv: no rows"), 2, "file.csv: no rows"),
        (RunFailed("the loss is not a number"), 1, "the loss is not a number"),
        (OSError(28, "No space left on device", "a.csv"), 1, "No space left on device: 'a.csv'"),
        (MemoryError(), 1, "out of memory: lower train_batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, "out of memory: lower train_batch_size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: x\nat"),
            1,
            "out of memory: low",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_is_no_bug_ends_in_one_line(error, status, message, on_import, monkeypatch, capsys):
    found, err = ending(error, monkeypatch, capsys, on_import=on_import)

    assert found == status
    assert err.startswith("recbole-mm: error: ") and message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("no rows"), ValueError("x")])
def test_a_message_begins_a_line_also_if_a_progress_bar_is_open(error, monkeypatch, capsys):
    bar = tqdm(total=3, mininterval=0)

    _, err = ending(error, monkeypatch, capsys, on_import=False)

    assert bar.disable  # closed
    assert "recbole-mm: error: " in err
    assert not re.search("[^\n]recbole-mm: error: ", err)


@pytest.mark.parametrize("on_import", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("x"), AssertionError(), TypeError("x")]
)
def test_a_bug_shows_where_it_is_and_asks_to_be_reported(error, on_import, monkeypatch, capsys):
    status, err = ending(error, monkeypatch, capsys, on_import=on_import)

    assert status == 70
    assert err.startswith("Traceback (most recent call last)")
    assert type(error).__name__ in err
    last = err.splitlines()[-1]
    assert re.match(r"This is a bug in recbole-mm, not your mistake\. Please report it to", last)
    assert "and the output of `recbole-mm doctor`" in last
    assert f"torch {torch.__version__.partition('+')[0]}" in last
    assert f"Python {sys.version.split()[0]}" in last


def test_an_interruption_while_modules_are_imported_ends_with_130():
    program = """
        import sys, os, signal
        class Interrupts:
            def find_spec(self, name, *_):
                if name == "torch":
                    os.kill(os.getpid(), signal.SIGINT)
        sys.meta_path.insert(0, Interrupts())
        from recbole_mm.cli import main
        sys.exit(main(["--model=SASRec", "--dataset=demo"]))
    """
    program = "\n".join(line[8:] for line in program.splitlines())
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )

    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.splitlines() == ["recbole-mm: error: interrupted"]


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
@pytest.mark.parametrize("buffering", ["-u", "-I"])  # -I: none is switched off
@pytest.mark.parametrize("ended", ["", "raise UserError('no rows')"])
def test_a_command_whose_output_nobody_reads_any_more_ends_silently(buffering, ended, tmp_path):
    (tmp_path / "talks.py").write_text(
        "from recbole_mm.tools.errors import UserError\n"
        f"def main(_):\n    print('one line')\n    {ended}\n"
    )
    program = f"""
import sys
sys.path[:0] = {[str(tmp_path), *sys.path]!r}
from recbole_mm import cli, commands
commands.COMMANDS["talk"] = commands.Command("talks", "")
sys.stdin.read()
sys.exit(cli.main(["talk"]))
"""
    process = subprocess.Popen(
        [sys.executable, buffering, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    process.stdin.close()

    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE


def test_a_pipe_to_another_program_that_breaks_is_a_failure(monkeypatch, capsys):
    error = BrokenPipeError(32, "Broken pipe")

    assert ending(error, monkeypatch, capsys, on_import=False) == (
        1,
        "recbole-mm: error: [Errno 32] Broken pipe\n",
    )


def wandb_without_a_key():
    """wandb's module as far as RecBole uses it."""
    module = types.ModuleType("wandb")
    module.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    error = type("UsageError", (Exception,), {"__module__": "wandb.errors"})

    def init(*_, **__):
        raise error("No API key configured")

    module.run, module.init = None, init
    return module


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--learning_rate=2024-13-45", "'learning_rate' is '2024-13-45'; it must be a number > 0"),
        ("--encoding=banana", "'encoding' is 'banana'; it must be an encoding like utf-8"),
        ("--freeze=5", "'freeze' is 5; it must be a list of strings"),
        ("--load_col=[user_id]", "'load_col' is ['user_id']; it must be a mapping"),
        (
            "--pre_model_path=note.txt",
            "note.txt: neither a checkpoint of this package nor one of MMM",
        ),
        (
            "--transform=mask_itemseq",
            "transform: mask_itemseq needs mask_ratio: give a share, e.g.",
        ),
        ("--save_dataset=True", "save_dataset: RecBole's saved data sets are not supported"),
        ("--log_wandb=True", "log_wandb: True: wandb cannot start (No API key"),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(
    option, message, toy, tmp_path, capfd, monkeypatch
):
    (tmp_path / "note.txt").write_text("no checkpoint")

    monkeypatch.setitem(sys.modules, "wandb", wandb_without_a_key())
    arguments = [f"--{key}={value}" for key, value in toy.items()]

    assert main(["--model=MMM4Rec", *arguments, "--epochs=1", option]) == 2

    (line,) = [line for line in capfd.readouterr().err.splitlines() if "recbole-mm: error" in line]
    assert message in line


@pytest.mark.parametrize("model", ["MISSRec", "SASRec", "BERT4Rec", "UniSRec"])
def test_a_width_that_does_not_fit_its_heads_names_those_that_do(model, toy, capsys):
    arguments = [f"--{key}={value}" for key, value in toy.items()]

    assert main([f"--model={model}", *arguments, "--hidden_size=31", "--n_heads=2"]) == 2

    assert (
        "hidden_size 31 cannot be divided among n_heads 2: set hidden_size to 30 or 32, or n_heads to "
        "one of 1, 31"
    ) in capsys.readouterr().err


@pytest.mark.parametrize("model", ["MISSRec", "SASRecPlus", "SASRec", "UniSRec"])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_a_usual_width_needs_no_other_option(model, width, toy):
    run = Run(load_config(model, config_dict={**toy, "hidden_size": width}))

    assert width in {size for p in run.model.parameters() for size in p.shape}


@pytest.mark.parametrize("width", [32, 64, 128])
def test_the_heads_that_a_message_names_fit_the_width(width, toy):
    given = {**toy, "hidden_size": width}

    with pytest.raises(UserError, match=f"hidden_size {width} x expand 2 / head_dim 64") as error:
        Run(load_config("MMM4Rec", config_dict=given))

    n_groups, head_dim = re.search(
        r"n_groups to one of (.*), or head_dim to one of (.*)\.", str(error.value)
    ).groups()
    for key, values in (("n_groups", n_groups), ("head_dim", head_dim)):
        for value in values.split(", "):
            assert Run(load_config("MMM4Rec", config_dict={**given, key: int(value)})).model
