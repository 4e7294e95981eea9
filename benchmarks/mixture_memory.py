"""Memory of pre-training on a mixture, per item and per interaction.

    python benchmarks/mixture_memory.py [--items 1000000] [--interactions 10000000] [--width 512]

Five synthetic domains (users of ten events, text and image features in float16) are written once to
a temporary folder; a separate process loads them as a mixture, creates the model and takes some
steps with the in-batch loss. Tensors are measured by their sizes, the process by its resident
memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from process_memory import peak, resident

DOMAINS = [f"Domain{number}" for number in range(5)]
EVENTS_PER_USER = 10
STEPS = 5


def write_domains(root: Path, n_items: int, n_interactions: int, width: int) -> None:
    from recbole_mm.data.feature_files import feature_path, write_item_features

    random = np.random.default_rng(0)
    items, events = n_items // len(DOMAINS), n_interactions // len(DOMAINS)
    for domain in DOMAINS:
        folder = root / domain
        folder.mkdir(parents=True)
        bought = random.integers(0, items, events)
        bought[:items] = np.arange(items)  # every item occurs
        table = pd.DataFrame(
            {
                "user_id:token": np.arange(events) // EVENTS_PER_USER,
                "item_id:token": bought,
                "timestamp:float": random.integers(1_400_000_000, 1_600_000_000, events),
            }
        )
        table.to_csv(folder / f"{domain}.inter", sep="\t", index=False)
        for modality in ("text", "image"):
            values = random.standard_normal((items, width), dtype=np.float32).astype(np.float16)
            path = feature_path(folder, domain, modality)
            write_item_features(path, np.arange(items).astype(str), values, {"dimension": width})


def tensor_bytes(interactions) -> int:
    return sum(value.numel() * value.element_size() for value in interactions.interaction.values())


def measure(root: str, model: str, batch: int) -> dict:
    """Sizes in bytes, times in seconds."""
    from recbole.data import data_preparation
    from recbole.utils import get_model

    from recbole_mm.config.load import load_config
    from recbole_mm.data.dataset import MultiModalDataset

    settings = {
        "data_path": root,
        "domains": DOMAINS,
        "train_stage": "pretrain",
        "use_item_id": False,
        "softmax": "in_batch",
        "interest_ratio": 0.0001,
        "train_batch_size": batch,
        "state": "ERROR",
    }
    own = {k: v for k, v in settings.items() if model == "MISSRec" or k != "interest_ratio"}
    config = load_config(model, "Mixture", (), own)
    before = resident()
    started = time.perf_counter()
    dataset = MultiModalDataset(config)
    loaded = time.perf_counter()
    train, valid, test = data_preparation(config, dataset)
    built, built_size = time.perf_counter(), resident()
    recommender = get_model(model)(config, train._dataset).train()
    recommender.on_epoch_start(0)
    seconds = []
    for interaction in islice(train, STEPS):
        step = time.perf_counter()
        recommender.calculate_loss(interaction).backward()
        seconds.append(time.perf_counter() - step)
    features = [dataset.features[name] for name in dataset.modalities]
    shared = {recommender.feature(m).data_ptr() for m in dataset.modalities}
    assert shared == {feature.values.data_ptr() for feature in features}, "features were copied"
    parts = [part._dataset.inter_feat for part in (train, valid, test)]
    return {
        "items": dataset.item_num - 1,
        "interactions": len(dataset.history),
        "features": sum(f.values.numel() * f.values.element_size() for f in features),
        "events": tensor_bytes(dataset.history) + sum(map(tensor_bytes, parts)),
        "resident_after_load": built_size - before,
        "resident_with_model": resident() - before,
        "peak": peak(),
        "load_s": loaded - started,
        "build_s": built - loaded,
        "step_s": sorted(seconds)[len(seconds) // 2],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument(
        "--width", type=int, default=512, help="width of the features of both modalities"
    )
    parser.add_argument("--model", default="MMM4Rec", choices=["MMM4Rec", "MISSRec"])
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--measure", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.model, options.batch)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_domains(Path(folder), options.items, options.interactions, options.width)
        command = [sys.executable, __file__, "--model", options.model]
        command += ["--batch", str(options.batch), "--measure", folder]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(output.splitlines()[-1])
    for name, value in result.items():
        is_size = name in ("features", "events", "peak") or name.startswith("resident")
        print(f"{name:20s} {value / 2**20:,.0f} MB" if is_size else f"{name:20s} {value:,.2f}")
    print(f"features             {result['features'] / result['items']:,.0f} bytes per item")
    print(f"events               {result['events'] / result['interactions']:,.0f} bytes each")


if __name__ == "__main__":
    main()
