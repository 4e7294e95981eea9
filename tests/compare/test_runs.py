"""Runs of a comparison: processes that end, are killed and resume."""

import os
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from tiny import TINY_MMM4REC

from recbole_mm.compare.entries import Entry
from recbole_mm.compare.runs import EntryRun, execute, find_run, only_one_in, plan
from recbole_mm.compare.worker import BEST_EPOCH, LATEST_EPOCH, LOCK, PLAN, RANKS, RESULT, run_one
from recbole_mm.config.load import load_config
from recbole_mm.tools.children import Children
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.locks import Locked, locked
from recbole_mm.tools.records import write_record

TINY = {**TINY_MMM4REC, "epochs": 4}


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_a_killed_run_resumes_as_if_it_had_not_been_killed(toy, tmp_path, monkeypatch):
    config = load_config("MMM4Rec", config_dict={**toy, **TINY})
    entry = Entry("MMM4Rec", "MMM4Rec", files=[], settings={})
    killed, reference = (find_run(entry, config, tmp_path / out) for out in ("killed", "reference"))
    for run in (killed, reference):
        plan(run, config)
    original, steps = torch.optim.Optimizer.zero_grad, []

    def zero_grad(self, *args, **kwargs):
        steps.append(0)
        if len(steps) == 8:  # in the middle of the third epoch of three batches
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch.optim.Optimizer, "zero_grad", zero_grad)
        run_one(killed.folder)
    assert (killed.folder / LATEST_EPOCH).is_file()

    assert execute([killed, reference], [], jobs=1, log=print) == []

    output = (killed.folder / "output.txt").read_text()
    assert "resuming with epoch 2" in output
    assert killed.result()["metrics"] == reference.result()["metrics"]
    assert killed.result()["best_epoch"] == reference.result()["best_epoch"]
    ranks, wanted = (pl.read_parquet(run.folder / "ranks.parquet") for run in (killed, reference))
    assert ranks.equals(wanted)
    assert (killed.folder / BEST_EPOCH).is_file()
    assert not (killed.folder / LATEST_EPOCH).exists()


def finished_run(folder):
    """As a worker leaves it."""
    run = EntryRun("SASRec", 1, folder)
    pl.DataFrame({"rank": [3, 1]}).write_parquet(folder / RANKS)
    write_record(folder / PLAN, {"label": "SASRec", "config": {}})
    write_record(folder / RESULT, {"seconds": 1.0, RANKS: sha256_of_file(folder / RANKS)})
    return run


@pytest.mark.parametrize("name", [RESULT, RANKS, PLAN])
@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda _: b"", None])
def test_a_finished_run_that_is_damaged_is_set_aside(tmp_path, name, damage, caplog):
    run = finished_run(tmp_path)
    run.set_aside_if_damaged()
    assert run.finished
    assert run.ranks().collect()["rank"].to_list() == [3, 1]

    path = tmp_path / name
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    finished_before = run.finished
    run.set_aside_if_damaged()

    assert not run.finished
    if finished_before:
        assert f"{tmp_path / RESULT}: damaged" in caplog.text
        assert (tmp_path / f"{RESULT}.damaged").is_file()


def test_ranks_of_another_run_are_noticed(tmp_path):
    run = finished_run(tmp_path)
    pl.DataFrame({"rank": [1, 1]}).write_parquet(tmp_path / RANKS)

    run.set_aside_if_damaged()

    assert not run.finished
    assert (tmp_path / f"{RANKS}.damaged").is_file()


def test_a_folder_is_locked_by_one_comparison(tmp_path):
    refusal = "another comparison is running in"
    with only_one_in(tmp_path), pytest.raises(Locked, match=refusal):
        only_one_in(tmp_path).__enter__()
    with only_one_in(tmp_path):
        pass


@pytest.mark.usefixtures("forked_children")
def test_a_worker_leaves_the_files_of_another_one_alone(tmp_path):
    (tmp_path / "half.pth").write_bytes(b"half")
    command = [sys.executable, "-m", "recbole_mm.compare.worker", str(tmp_path)]

    with locked(tmp_path / LOCK, "held"), open("out.txt", "wb") as output, Children() as children:
        status = children.run(command, output, os.environ, 1, lambda: None)

    assert status == 1
    (*_, reason) = Path("out.txt").read_text(encoding="utf-8").splitlines()
    assert reason == f"{tmp_path}: another worker is running it"
    assert (tmp_path / "half.pth").is_file()


@pytest.mark.usefixtures("forked_children")
def test_a_run_that_the_system_refuses_does_not_end_the_others(tmp_path):
    runs = [EntryRun("gone", 1, tmp_path / "gone"), EntryRun("crashes", 1, tmp_path / "crashes")]
    runs[1].folder.mkdir()

    failures = execute(runs, [], jobs=1, log=print)

    reasons = {failure.run.label: failure.reason for failure in failures}
    assert "No such file" in reasons["gone"]
    assert "run.json" in reasons["crashes"]
