"""A run's configuration, metrics and test result reach the tool that ``tracker`` names."""

import os
import sys
import threading
from pathlib import Path

import pytest
from tiny import TINY

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import UserError
from recbole_mm.training.tracking import Tracked, start_tracking

MODELS = {
    "UniSRec": {**TINY, "n_heads": 2, "n_experts": 2},
    "GRU4Rec": {**TINY, "embedding_size": 8, "train_neg_sample_args": None},
}


@pytest.fixture
def tracked(toy):
    """A function that trains and tests a model with a tracker: its result."""

    def track(tracker, model="UniSRec", **settings):
        given = {**toy, **MODELS[model], "tracker": tracker, "wandb_project": "shop", **settings}
        run = Run(load_config(model, config_dict=given))
        run.train()
        return run.test()

    return track


@pytest.mark.parametrize("model", MODELS)
def test_tensorboard_has_every_epoch_and_the_test_result_beside_the_configuration(model, tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = tracked("tensorboard", model)

    (folder,) = Path("log_tensorboard").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("valid/ndcg@10")] == [0, 1]
    assert [event.value for event in events.Scalars("valid/ndcg@10")] == pytest.approx(
        [entry["valid_score"] for entry in result.history], abs=1e-4
    )
    losses, of_recbole = events.Scalars("train/loss"), events.Scalars("Loss/Train")
    assert [(e.step, e.value) for e in losses] == [(e.step, e.value) for e in of_recbole]
    (tested,) = events.Scalars("test/ndcg@10")
    assert tested.value == pytest.approx(result.test_result["ndcg@10"], abs=1e-6)
    plugin = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"hidden_size" in plugin and b"valid_metric" in plugin


def test_no_thread_and_no_file_of_tensorboard_stays_when_a_run_ends_or_fails(tracked, monkeypatch):
    before = set(threading.enumerate())

    tracked("tensorboard")
    assert set(threading.enumerate()) == before
    monkeypatch.setattr(Run, "test", None)
    with pytest.raises(ZeroDivisionError):
        monkeypatch.setattr("recbole.trainer.trainer.early_stopping", lambda *_, **__: 1 / 0)
        tracked("tensorboard")

    assert set(threading.enumerate()) == before


def test_none_writes_no_file(tracked):
    tracked("none")

    assert not Path("log_tensorboard").exists() or not list(Path("log_tensorboard").rglob("*"))


def test_mlflow_has_a_run_with_configuration_metrics_and_test_result(
    tracked, monkeypatch, tmp_path
):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")

    result = tracked("mlflow")

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'runs.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["model"] == "UniSRec"
    assert run.data.params["hidden_size"] == "8"
    assert run.data.metrics["test/ndcg_at_10"] == pytest.approx(result.test_result["ndcg@10"])
    history = client.get_metric_history(run.info.run_id, "valid/ndcg_at_10")
    assert [metric.step for metric in history] == [0, 1]


def test_wandb_has_an_offline_run_and_the_next_run_is_another(tracked, monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")

    result = tracked("wandb")
    tracked("wandb")

    assert wandb.run is None
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*"), key=os.path.getmtime)
    assert first != second
    (file,) = first.glob("*.wandb")
    content = file.read_bytes()
    assert b"test/ndcg@10" in content and b"hidden_size" in content
    assert result.test_result["ndcg@10"] >= 0


def test_trackio_has_a_run_on_this_machine(tracked, monkeypatch, tmp_path):
    pytest.importorskip("trackio")
    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    from trackio.sqlite_storage import SQLiteStorage

    result = tracked("trackio")

    (name,) = SQLiteStorage.get_runs("shop")
    rows = SQLiteStorage.get_logs("shop", name)
    assert [row["epoch"] for row in rows if "valid/ndcg@10" in row] == [0, 1]
    assert rows[-1]["test/ndcg@10"] == pytest.approx(result.test_result["ndcg@10"])
    assert SQLiteStorage.get_run_config("shop", name)["hidden_size"] == 8


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(tracker, toy, monkeypatch):
    monkeypatch.setitem(sys.modules, tracker, None)

    with pytest.raises(ConfigError, match=f"tracker: {tracker} needs {tracker}: pip install"):
        load_config("UniSRec", config_dict={**toy, "tracker": tracker})


def test_a_tool_that_cannot_start_is_named(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://runs")

    with pytest.raises(UserError, match="tracker: mlflow cannot start a run"):
        start_tracking("mlflow", Tracked("shop", "run", {}), None)
