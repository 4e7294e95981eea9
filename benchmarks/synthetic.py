"""Random items, histories and settings at the sizes of the papers, and a stop watch."""

import argparse
import time
from types import SimpleNamespace

import torch

from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.data.features import ItemFeatures


def model_settings(model: str, **changes) -> RunConfig:
    """The defaults of a model, with a softmax over all items, and some values changed; without
    ``use_gpu``, on the CPU."""
    return load_config(
        model, "random", config_dict={"use_gpu": False, "softmax": "full", **changes}
    )


def random_dataset(n_items: int, width: int) -> SimpleNamespace:
    """Items 1 to ``n_items`` - 1 with two modalities each, without a gap."""
    features = {}
    for name in ("text", "image"):
        values = torch.randn(n_items, width) * 0.05
        values[0] = 0
        features[name] = ItemFeatures(values, torch.arange(n_items) > 0)
    return SimpleNamespace(
        modalities=list(features),
        features=features,
        has_time=True,
        num=lambda _: n_items,
        field2id_token={"item_id": [str(item) for item in range(n_items)]},
        item_counts=lambda: torch.ones(n_items),
    )


def random_batch(rows: int, n_items: int, length: int, real_share: float) -> dict:
    """Geometric lengths, as on Amazon data: ``real_share`` of the positions are events."""
    low, high = 1.0, 100.0 * length
    for _ in range(60):  # the clamp at L shortens the mean
        middle = (low + high) / 2
        p = 1 / middle
        mean = (1 - (1 - p) ** length) / p
        low, high = (middle, high) if mean < real_share * length else (low, middle)
    lengths = torch.empty(rows).geometric_(1 / low).clamp(max=length).long()
    padding = torch.arange(length) >= lengths.unsqueeze(1)
    item_seq = torch.randint(1, n_items, (rows, length)).masked_fill(padding, 0)
    days = torch.empty(rows, length + 1, dtype=torch.float64).exponential_(1 / 30).cumsum(1)
    stamps = 1.4e9 + 86400 * days
    return {
        "item_id_list": item_seq,
        "item_length": lengths,
        "timestamp_list": stamps[:, :-1].masked_fill(padding, 0),
        "timestamp": stamps.gather(1, lengths.unsqueeze(1)).squeeze(1),
        "item_id": torch.randint(1, n_items, (rows,)),
    }


def training_step(module, optimizer_class):
    """One optimizer step on a batch."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = optimizer_class(parameters, lr=1e-3)

    def step(batch):
        optimizer.zero_grad()
        module.calculate_loss(batch).backward()
        optimizer.step()

    return step


def alternating_milliseconds(steps, batches, clock=time.perf_counter) -> list[float]:
    """Median time of each step function; they take turns, so that both see the same machine.

    Args:
        clock: ``time.process_time`` counts the process's own CPU time, for a busy machine.
    """
    times = [[] for _ in steps]
    for batch in batches:
        for step, seconds in zip(steps, times, strict=True):
            start = clock()
            step(batch)
            seconds.append(clock() - start)
    return [1e3 * sorted(seconds[1:])[len(seconds[1:]) // 2] for seconds in times]


def matrix_product_rate() -> float:
    """GFLOP/s of a large float32 product on this machine, now."""
    a = torch.randn(4096, 1024)
    b = torch.randn(1024, 4096)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 4096 * 1024 * 4096 / best / 1e9


def benchmark_arguments(description: str, items: int):
    """Command line of a benchmark; ``clock`` is the clock that it asks for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--items", type=int, default=items, help="item table, padding included")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument(
        "--cpu",
        action="store_const",
        dest="clock",
        const=time.process_time,
        default=time.perf_counter,
        help="count CPU time instead of wall time; use it with --threads 1 on a busy machine",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    return arguments


def print_table(name: str, results: dict[str, list[float]]) -> None:
    print(f"{'ms per step':20s} {name:>9s} {'plain':>9s} {'ratio':>6s}")
    for task, (ours, plain) in results.items():
        print(f"{task:20s} {ours:9.0f} {plain:9.0f} {plain / ours:6.1f}")
