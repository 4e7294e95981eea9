"""Peak memory of a training step with a million items.

    python benchmarks/large_catalog.py [--items=1000000] [--rows=step,step_sparse,evaluation] [--models=MMM4Rec,...]

``step``: exact softmax over all items; ``step_sparse``: sampled softmax, and only the ID embeddings of the
batch change; ``evaluation``: RecBole's evaluator with 10,000 users. Batches of 1,024 targets, histories of
at most 20 events, width 256, features of 384 and 512 numbers in float16. Every row runs in its own
process. "MB own" is memory that is not backed by a file. A small step precedes the step with IDs,
so that the optimizer has its state.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from process_memory import OwnMemory, own, peak
from recommend import LARGE, write_large_dataset
from synthetic import dataset_of, model_settings, random_batch, training_step

from recbole_mm.data.features import ItemFeatures
from recbole_mm.integration.lookup import model_class

BATCH, LENGTH, WIDTH = 1024, 20, 256
WIDTHS = {"text": 384, "image": 512}
EVALUATED = 10_000
ROWS_OF_RANDOM_FEATURES = 10_000  # repeated: drawing all of them takes longer than a step
SETTINGS = {
    "MMM4Rec": {"use_item_id": False, "learner": "adam"},
    "MISSRec": {"use_item_id": False, "interest_ratio": 2e-5, "interest_iterations": 1},
    "UniSRec": {"use_item_id": False},
    "SASRecPlus": {"use_item_id": False, "modalities": list(WIDTHS)},
    "SASRecPlus-IDs": {"use_item_id": True, "modalities": []},
}
"""All models read only features, except the last."""
TASKS = {
    "step": {"softmax": "full"},
    "step_sparse": {"softmax": "sampled", "sparse_id_updates": True},
}
"""Sparse steps use models with IDs."""


def large_dataset(n_items: int, modalities) -> SimpleNamespace:
    features = {}
    for name in modalities:
        part = torch.randn(ROWS_OF_RANDOM_FEATURES, WIDTHS[name]).mul_(0.05).half()
        values = part.repeat(-(-n_items // len(part)), 1)[:n_items]
        values[0] = 0
        features[name] = ItemFeatures(values, torch.arange(n_items) > 0)
    return dataset_of(n_items, features)


def step(name: str, task: str, n_items: int) -> dict:
    torch.manual_seed(0)
    settings = {
        "hidden_size": WIDTH,
        "MAX_ITEM_LIST_LENGTH": LENGTH,
        "loss_positions": "last",
        **SETTINGS[name],
        **TASKS[task],
    }
    if task == "step_sparse":
        settings["use_item_id"] = True
    name_of_model = name.partition("-")[0]
    config = model_settings(name_of_model, **settings)
    modalities = settings.get("modalities", list(WIDTHS))
    model = model_class(name_of_model)(config, large_dataset(n_items, modalities)).train()
    before = own()
    model.on_epoch_start(0)
    train_on = training_step(model, config)
    seconds = []
    for rows in (8, BATCH) if model.use_item_id else (BATCH,):
        batch = random_batch(rows, n_items, LENGTH, 0.5)
        begun = time.perf_counter()
        train_on(batch)
        seconds.append(time.perf_counter() - begun)
    return {"seconds": round(seconds[-1], 1), "MB before": round(before / 1e6)}


def evaluation(name: str, _task: str, n_items: int) -> dict:
    from recbole_mm.config.load import load_config
    from recbole_mm.run.run import Run

    with tempfile.TemporaryDirectory() as folder:
        write_large_dataset(Path(folder, LARGE), n_items, events=n_items // EVALUATED)
        values = {"data_path": folder, "MAX_ITEM_LIST_LENGTH": LENGTH, "checkpoint_dir": folder}
        values |= {"show_progress": False, "metrics": ["NDCG", "Recall", "ItemCoverage"]}
        config = load_config(
            name.partition("-")[0], LARGE, config_dict={**SETTINGS[name], **values}
        )
        run = Run(config)
        run.model.on_epoch_start(0)
        run.trainer.eval_collector.data_collect(run.splits.train)
        before, begun = own(), time.perf_counter()
        metrics = run.trainer.evaluate(run.splits.test, load_best_model=False)
        seconds = time.perf_counter() - begun
    return {
        "seconds": round(seconds, 1),
        "MB before": round(before / 1e6),
        "users": len(run.splits.test.dataset),
        "ndcg@10": float(metrics["ndcg@10"]),
    }


def measured(name: str, task: str, n_items: int) -> dict:
    memory = OwnMemory()
    known = (evaluation if task == "evaluation" else step)(name, task, n_items)
    memory.ended.set()
    return {
        "model": name,
        "task": task,
        **known,
        "MB own": round(memory.most / 1e6),
        "MB peak": round(peak() / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--rows", default="step,step_sparse,evaluation")
    parser.add_argument("--models", default=",".join(SETTINGS))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(measured(args.models, args.rows, args.items)))
        return
    names, tasks = args.models.split(","), args.rows.split(",")
    unknown = [*({*names} - {*SETTINGS}), *({*tasks} - {*TASKS, "evaluation"})]
    if unknown:
        parser.error(
            f"{unknown}: models are {', '.join(SETTINGS)}; rows {', '.join(TASKS)}, evaluation"
        )
    for task in tasks:
        for name in names:
            flags = [f"--items={args.items}", f"--rows={task}", f"--models={name}", "--child"]
            command = [sys.executable, __file__, *flags]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            found = done.stdout.splitlines()[-1:] or [f"{name}, {task}: exit {done.returncode}"]
            print(found[0], flush=True)


if __name__ == "__main__":
    main()
