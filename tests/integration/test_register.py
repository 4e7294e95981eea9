import importlib
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import recbole.data.dataset
import recbole.trainer
import torch
from recbole.config import Config
from recbole.data.dataset import SequentialDataset
from recbole.quick_start import load_data_and_model, objective_function, run_recbole
from recbole.trainer import HyperTuning
from recbole.utils import get_model, get_trainer
from tiny import TINY_MMM4REC

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import properties_dir
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path
from recbole_mm.integration import register
from recbole_mm.integration.register import multi_modal_dataset_for
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.training.trainer import MultiModalTrainer
from recbole_mm.transfer.checkpoints import CheckpointOfRecBole, read_checkpoint

TINY = {**TINY_MMM4REC, "epochs": 1, "valid_metric": "NDCG@5", "topk": [5]}


@pytest.mark.parametrize("model", MODELS)
def test_recbole_finds_every_model_its_data_set_and_its_trainer_by_name(model):
    model_class = get_model(model)

    assert model_class.__name__ == model
    assert model_class.__module__ == f"recbole_mm.model.sequential_recommender.{model.lower()}"
    assert get_trainer(model_class.type, model) is MultiModalTrainer
    assert getattr(recbole.data.dataset, f"{model}Dataset") is MultiModalDataset
    assert (properties_dir() / "model" / f"{model}.yaml").is_file()


def test_recboles_own_names_are_untouched():
    assert get_model("SASRec").__module__ == "recbole.model.sequential_recommender.sasrec"
    assert get_trainer(get_model("SASRec").type, "SASRec") is recbole.trainer.Trainer
    assert not hasattr(recbole.data.dataset, "SASRecDataset")
    with pytest.raises(AttributeError, match="'recbole.trainer' has no attribute 'Nonsense'"):
        recbole.trainer.Nonsense  # noqa: B018


def test_recboles_config_has_our_defaults_for_our_models_only():
    ours = Config("MMM4Rec", "toy")
    theirs = Config("SASRec", "toy", config_dict={"train_neg_sample_args": None})

    assert ours["d_state"] == 64
    assert ours["valid_metric"] == "NDCG@10"
    assert theirs["valid_metric"] == "MRR@10"
    assert Config("MMM4Rec", "toy", config_dict={"d_state": 3})["d_state"] == 3


def test_registering_twice_changes_nothing():
    layered, finders = Config._load_internal_config_dict, list(sys.meta_path)

    register.register()

    assert Config._load_internal_config_dict is layered
    assert sys.meta_path == finders


def test_a_model_of_recbole_has_our_data_set_class_within_the_context_only():
    with multi_modal_dataset_for("SASRec"):
        assert recbole.data.dataset.SASRecDataset is MultiModalDataset
    assert not hasattr(recbole.data.dataset, "SASRecDataset")

    with multi_modal_dataset_for("BPR"):  # no sequential model
        assert not hasattr(recbole.data.dataset, "BPRDataset")

    own = recbole.data.dataset.DIENDataset
    with multi_modal_dataset_for("DIEN"):
        assert recbole.data.dataset.DIENDataset is own


def test_importing_the_package_imports_no_model_and_no_ray():
    program = """
        import sys
        import recbole_mm
        ours = [m for m in sys.modules if m.startswith("recbole_mm.model")]
        assert not ours, ours
        assert "ray" not in sys.modules
        assert "recbole_mm.training.trainer" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


def test_recboles_own_run_and_load_functions_take_our_model(toy):
    result = run_recbole("MMM4Rec", toy["dataset"], config_dict={**toy, **TINY})

    assert result["test_result"]["hit@5"] >= 0
    (path,) = Path("saved").glob("MMM4Rec-*.pth")
    config, model, dataset, *_, test_data = load_data_and_model(path)
    assert isinstance(config, Config)
    assert (config["hidden_size"], config["data_path"]) == (8, f"{toy['data_path']}/toy")
    assert isinstance(dataset, MultiModalDataset)
    again = get_trainer(config["MODEL_TYPE"], "MMM4Rec")(config, model)
    assert again.evaluate(test_data, load_best_model=False) == result["test_result"]


def test_a_checkpoint_is_tested_by_metrics_of_lists_too(toy):
    def tested(metrics, collect=False):
        given = {**toy, **TINY, "metrics": metrics, "topk": [5], "valid_metric": "NDCG@5"}
        result = run_recbole("MMM4Rec", toy["dataset"], config_dict=given)
        path = max(Path("saved").glob("MMM4Rec-*.pth"), key=lambda path: path.stat().st_mtime_ns)
        config, model, _, train_data, _, test_data = load_data_and_model(path)
        trainer = get_trainer(config["MODEL_TYPE"], "MMM4Rec")(config, model)
        if collect:
            trainer.eval_collector.data_collect(train_data)
        return trainer.evaluate(test_data, load_best_model=False), result["test_result"]

    again, first = tested(["NDCG", "ItemCoverage"])
    assert again == first
    with pytest.raises(
        ConfigError, match=r"call trainer.eval_collector.data_collect\(train_data\)"
    ):
        tested(["NDCG", "AveragePopularity"])
    again, first = tested(["NDCG", "AveragePopularity"], collect=True)
    assert again == first


def targets_of(loader):
    data = loader._dataset
    tokens = data.field2id_token["item_id"][data.inter_feat["item_id"]]
    return list(zip(data.inter_feat["user_id"].tolist(), tokens, strict=True))


def write_ties(folder):
    """Thirty users whose events are all of one day, in random order of items."""
    random = np.random.default_rng(0)
    rows = [f"u{user}\ti{item}\t86400" for user in range(30) for item in random.permutation(12)[:7]]
    path = folder / "dataset" / "ties" / "ties.inter"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    return {"dataset": "ties", "data_path": str(path.parents[1])}


def test_a_checkpoint_of_recboles_model_by_our_command_has_its_data_and_splits_again(tmp_path):
    settings = {"hidden_size": 8, "inner_size": 8, "epochs": 1, "tie_order": "item"}
    settings |= {"topk": [5], "valid_metric": "NDCG@5"}
    run = Run(load_config("SASRec", config_dict={**write_ties(tmp_path), **settings}))
    run.train()
    result = run.test()

    config, model, dataset, *loaders = load_data_and_model(result.checkpoint)

    assert type(dataset) is MultiModalDataset
    for again, first in zip(loaders, run.splits, strict=True):
        assert targets_of(again) == targets_of(first)
    trainer = get_trainer(config["MODEL_TYPE"], "SASRec")(config, model)
    # RecBole's trainer breaks ties of scores in another way, which may move a rank
    again = trainer.evaluate(loaders[2], load_best_model=False)
    assert again["ndcg@5"] == pytest.approx(result.test_result["ndcg@5"], abs=1e-3)
    with pytest.raises(CheckpointOfRecBole, match="a checkpoint of RecBole.s trainer"):
        read_checkpoint(result.checkpoint)


def test_features_that_are_added_later_do_not_change_what_a_checkpoint_opens(toy):
    run = Run(load_config("UniSRec", config_dict={**toy, "epochs": 1}))
    run.train()
    checkpoint = run.test().checkpoint
    folder = Path(toy["data_path"], "toy")
    shutil.copy(feature_path(folder, "toy", "text"), feature_path(folder, "toy", "audio"))

    _, model, dataset, *_ = load_data_and_model(checkpoint)

    assert model.modalities == dataset.modalities == ["text", "image"]


def test_a_checkpoint_of_recboles_own_run_keeps_recboles_data_set(tmp_path):
    settings = {"hidden_size": 8, "inner_size": 8, "epochs": 1, "train_neg_sample_args": None}
    settings |= {"topk": [5], "valid_metric": "NDCG@5"}
    settings |= {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    run_recbole("SASRec", config_dict={**write_ties(tmp_path), **settings})

    _, _, dataset, *_ = load_data_and_model(next(Path("saved").glob("SASRec-*.pth")))

    assert type(dataset) is SequentialDataset


def test_recboles_resume_takes_our_checkpoint(toy):
    first = fit_and_evaluate(load_config("MMM4Rec", config_dict={**toy, **TINY}))
    trainer = Run(load_config("MMM4Rec", config_dict={**toy, **TINY})).trainer

    trainer.resume_checkpoint(first.checkpoint)

    assert trainer.start_epoch == 1
    saved = torch.load(first.checkpoint, weights_only=True)["state_dict"]
    torch.testing.assert_close(trainer.model.state_dict(), saved)


def test_recboles_hyper_tuning_takes_our_model(toy, tmp_path):
    pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")
    fixed = tmp_path / "fixed.yaml"
    fixed.write_text("\n".join(f"{k}: {v}" for k, v in {"model": "MMM4Rec", **toy, **TINY}.items()))
    tuning = HyperTuning(
        objective_function,
        params_dict={"choice": {"learning_rate": [0.01, 0.001]}},
        fixed_config_file_list=[str(fixed)],
    )

    tuning.run()

    assert len(tuning.params2result) == 2
    assert tuning.best_params["learning_rate"] in (0.01, 0.001)


@pytest.mark.parametrize("name", ["run_recbole", "run_recboles", "objective_function"])
def test_a_pickled_run_function_brings_this_package_along(name):
    function = getattr(importlib.import_module("recbole.quick_start.quick_start"), name)

    assert pickle.loads(pickle.dumps(function)) is function
    assert b"recbole_mm.integration.spawned" in pickle.dumps(function)


def test_run_functions_imported_before_this_package_bring_it_along_too():
    program = """
        from recbole.quick_start import run_recbole
        import recbole_mm
        assert run_recbole.__module__ == "recbole_mm.integration.spawned", run_recbole.__module__
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.slow
def test_a_spawned_process_knows_our_models(toy):
    """The parent has no file that the child could import again, as in a notebook."""
    program = f"""
        import multiprocessing
        import recbole_mm
        from recbole.quick_start import run_recbole

        context = multiprocessing.get_context("spawn")
        queue = context.SimpleQueue()
        options = {{"config_dict": {{**{toy!r}, **{TINY!r}}}, "queue": queue}}
        child = context.Process(target=run_recbole, args=("MMM4Rec", "toy"), kwargs=options)
        child.start()
        child.join()
        assert child.exitcode == 0, child.exitcode
        print("hit@5", queue.get()["test_result"]["hit@5"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith("hit@5 ")
