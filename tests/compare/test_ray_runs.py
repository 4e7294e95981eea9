"""Runs of a comparison on a ray cluster, of which a node dies."""

import contextlib
import os
import threading
import time
from pathlib import Path

import polars as pl
import psutil
import pytest
from tiny import TINY_MMM4REC

from recbole_mm.compare.entries import Entry
from recbole_mm.compare.runs import execute, find_run, plan
from recbole_mm.compare.worker import BEST_EPOCH, EPOCHS, OUTPUT, RANKS, RESULT, run_one
from recbole_mm.config.load import load_config

cluster_utils = pytest.importorskip("ray.cluster_utils", reason="--tool=ray needs recbole_mm[tune]")


@pytest.fixture
def two_nodes():
    """A cluster of two nodes with one core each, and a function that kills the second one."""
    import ray

    head = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 2**27, "include_dashboard": False}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=head)
    node = cluster.add_node(num_cpus=1, num_gpus=0, object_store_memory=2**27)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
    yield lambda: cluster.remove_node(node, allow_graceful=False)
    ray.shutdown()
    cluster.shutdown()


def planned(toy, out):
    """Two runs of one entry, planned in a folder."""
    runs = []
    for seed in (1, 2):
        config = load_config(
            "MMM4Rec",
            config_dict={**toy, **TINY_MMM4REC, "epochs": 60, "stopping_step": 60, "seed": seed},
        )
        run = find_run(Entry("MMM4Rec", "MMM4Rec", [], {}), config, out)
        plan(run, config)
        runs.append(run)
    return runs


def worker_of(folder):
    """The process that trains a run in a folder."""
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if any(word.endswith(folder.name) for word in process.info["cmdline"] or [])
    )


def assert_same_ranks(runs, wanted):
    for run, other in zip(runs, wanted, strict=True):
        assert pl.read_parquet(run.folder / RANKS).equals(pl.read_parquet(other.folder / RANKS))
        assert run.result()["metrics"] == other.result()["metrics"]


@pytest.mark.slow
def test_a_run_that_dies_with_its_node_is_run_again_and_results_are_those_without_ray(
    toy, tmp_path, two_nodes, monkeypatch
):
    from recbole_mm.compare.ray_runs import on_ray

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    local = planned(toy, tmp_path / "local")
    for run in local:
        run_one(run.folder)
    runs, lines, node = planned(toy, out := tmp_path.joinpath("ray").relative_to(tmp_path)), [], []

    def kill_when_both_train():
        folders = [tmp_path / "node" / run.folder for run in runs]
        waiting, stopped = list(folders), []
        while waiting:  # who trains first waits for the other one
            for folder in [folder for folder in waiting if (folder / EPOCHS).is_file()]:
                stopped.append(worker_of(folder))
                stopped[-1].suspend()
                waiting.remove(folder)
            time.sleep(0.02)
        node.append([(folder / RESULT).is_file() for folder in folders])
        two_nodes()
        for worker in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()

    # the nodes work in a folder that is not the one of the command
    (tmp_path / "node").mkdir()
    killer = threading.Thread(target=kill_when_both_train, daemon=True)
    killer.start()
    with on_ray(2) as remote:
        remote.folder = str(tmp_path / "node")
        failures = execute(runs, [], remote.jobs, lines.append, remote)

    killer.join(5)
    assert node == [[False, False]]  # both were in the middle of their training
    assert failures == []
    assert_same_ranks(runs, local)
    for run in runs:
        names = {path.name for path in (tmp_path / run.folder).iterdir()}
        assert {BEST_EPOCH, OUTPUT, RANKS, RESULT} <= names
    outputs = [(tmp_path / run.folder / OUTPUT).read_text() for run in runs]
    assert sum("resuming with epoch" in text for text in outputs) == 1
    assert out.as_posix() == "ray"
    assert lines[0] == "2 runs, 0 of them already finished; 2 at a time"


@pytest.mark.slow
def test_a_run_that_fails_on_a_node_sends_its_reason_and_its_output_only(toy, tmp_path):
    from recbole_mm.compare.ray_runs import receive, run_on_node

    settings = {**toy, "epochs": 2, "learning_rate": 1e30, "n_heads": 1}
    config = load_config("SASRec", config_dict=settings)
    run = find_run(Entry("SASRec", "SASRec", [], {}), config, Path("out"))
    plan(run, config)
    (tmp_path / "node").mkdir()

    reason, files = run_on_node(str(tmp_path / "node"), run, run.plan())

    os.chdir(tmp_path)
    receive(run, files)
    assert "lower learning_rate (1e+30)" in reason
    assert set(files) == {OUTPUT}
    assert "lower learning_rate" in (run.folder / OUTPUT).read_text()
    assert not run.finished
