"""Time and memory of loading a data set and forming every prefix, ours and RecBole's own.

    python benchmarks/prefix_memory.py [--interactions 10000000] [--length 50] [--only ours reopened]

Synthetic interactions (ten per user, times in seconds) are written once to a temporary folder; each
class then loads and splits them in a separate process, ours a second time from the table that it has
cached (``data_cache``). Seconds are wall-clock time; ``cpu_s`` is the processor time of loading and
splitting together, which other work on the machine affects less. RecBole's class copies every
prefix: at ten million interactions it needs 13 GB.
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

EVENTS_PER_USER = 10
BATCH = 2048
WAYS = ["ours", "reopened", "recbole"]
MB = 2**20


def write_interactions(folder: Path, n: int) -> None:
    random = np.random.default_rng(0)
    target = folder / "synthetic" / "synthetic.inter"
    target.parent.mkdir(parents=True)
    rows = 1_000_000
    for start in range(0, n, rows):
        size = min(rows, n - start)
        table = pd.DataFrame(
            {
                "user_id:token": (start + np.arange(size)) // EVENTS_PER_USER,
                "item_id:token": random.integers(0, max(n // 20, 100), size),
                "timestamp:float": random.integers(1_400_000_000, 1_600_000_000, size),
            }
        )
        table.to_csv(target, sep="\t", index=False, mode="a", header=start == 0)


def measure(which: str, folder: str, length: int) -> dict:
    """Load, split and read a few batches; sizes in MB, times in seconds."""
    from recbole.data import data_preparation
    from recbole.data.dataset import SequentialDataset

    from recbole_mm.config.load import load_config
    from recbole_mm.data.dataset import MultiModalDataset

    settings = {"data_path": folder, "MAX_ITEM_LIST_LENGTH": length, "modalities": []}
    settings |= {"train_neg_sample_args": None, "train_batch_size": BATCH, "state": "ERROR"}
    settings["data_cache"] = str(Path(folder, "tables"))
    config = load_config("SASRec", "synthetic", (), settings, None, {})
    dataset_class = SequentialDataset if which == "recbole" else MultiModalDataset
    start, start_cpu = time.perf_counter(), time.process_time()
    dataset = dataset_class(config)
    loaded, loaded_size = time.perf_counter(), resident() / MB
    train, _, _ = data_preparation(config, dataset)
    built, built_size, cpu = time.perf_counter(), resident() / MB, time.process_time()
    for _batch in islice(train, 20):
        pass
    return {
        "load_s": loaded - start,
        "build_s": built - loaded,
        "cpu_s": cpu - start_cpu,
        "added_mb": built_size - loaded_size,
        "peak_mb": peak() / MB,
        "batch_ms": (time.perf_counter() - built) / 20 * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=int, default=10_000_000)
    parser.add_argument("--length", type=int, default=50, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--measure", nargs=2, metavar=("WHICH", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(*options.measure, options.length)))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_interactions(Path(folder), options.interactions)
        print(f"{options.interactions:,} interactions, L={options.length}")
        results = {}
        for which in options.only:
            command = [sys.executable, __file__, "--length", str(options.length)]
            output = subprocess.run(
                [*command, "--measure", which, folder], check=True, capture_output=True, text=True
            )
            results[which] = json.loads(output.stdout.splitlines()[-1])
            shown = "  ".join(f"{name} {value:,.1f}" for name, value in results[which].items())
            print(f"{which:8s} {shown}", flush=True)
    if {"ours", "recbole"} <= set(results):
        ratios = {k: results["recbole"][k] / max(results["ours"][k], 1e-9) for k in results["ours"]}
        print("recbole / ours:  " + "  ".join(f"{k} {v:.1f}" for k, v in ratios.items()))


if __name__ == "__main__":
    main()
