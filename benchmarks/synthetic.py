"""Random items, histories and settings at the sizes of the papers, and a stop watch."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace

import torch

from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.data.dataset import TARGET_LIST
from recbole_mm.data.features import ItemFeatures
from recbole_mm.training.averaging import WeightAverage
from recbole_mm.training.optimizers import build_optimizer

STEPS_PER_EPOCH = 100


def model_settings(model: str, **changes) -> RunConfig:
    """The defaults of a model, with a softmax over all items, and some values changed; without
    ``use_gpu``, on the CPU."""
    return load_config(
        model, "random", config_dict={"use_gpu": False, "softmax": "full", **changes}
    )


def random_dataset(
    n_items: int, width: int, modalities: Sequence[str] = ("text", "image")
) -> SimpleNamespace:
    """Items 1 to ``n_items`` - 1 with every modality, without a gap."""
    features = {}
    for name in modalities:
        values = torch.randn(n_items, width) * 0.05
        values[0] = 0
        features[name] = ItemFeatures(values, torch.arange(n_items) > 0)
    return dataset_of(n_items, features)


def dataset_of(n_items: int, features: dict[str, ItemFeatures]) -> SimpleNamespace:
    """What a model reads of a data set: items that are all equally popular."""
    return SimpleNamespace(
        modalities=list(features),
        features=features,
        has_time=True,
        domains=None,
        num=lambda _: n_items,
        field2id_token={"item_id": [str(item) for item in range(n_items)]},
        item_counts=lambda: torch.ones(n_items),
        item_shares=lambda: torch.full((n_items,), 1 / n_items),
    )


def random_batch(
    rows: int, n_items: int, length: int, real_share: float, windows: bool = False
) -> dict:
    """Geometric lengths, as on Amazon data: ``real_share`` of the positions are events; of windows
    every event is a target."""
    low, high = 1.0, 100.0 * length
    for _ in range(60):  # the clamp at L shortens the mean
        middle = (low + high) / 2
        p = 1 / middle
        mean = (1 - (1 - p) ** length) / p
        low, high = (middle, high) if mean < real_share * length else (low, middle)
    lengths = torch.empty(rows).geometric_(1 / low).clamp(max=length).long()
    padding = torch.arange(length) >= lengths.unsqueeze(1)
    item_seq, targets = (
        torch.randint(1, n_items, (rows, length)).masked_fill(padding, 0) for _ in range(2)
    )
    days = torch.empty(rows, length + 1, dtype=torch.float64).exponential_(1 / 30).cumsum(1)
    stamps = 1.4e9 + 86400 * days
    batch = {
        "item_id_list": item_seq,
        "item_length": lengths,
        "timestamp_list": stamps[:, :-1].masked_fill(padding, 0),
        "timestamp": stamps.gather(1, lengths.unsqueeze(1)).squeeze(1),
        "item_id": torch.randint(1, n_items, (rows,)),
    }
    return {**batch, TARGET_LIST: targets} if windows else batch


def training_step(model, config) -> Callable[[dict], None]:
    """What the trainer does with a batch: loss, gradients, a step of the optimizer, the average of
    the weights."""
    optimizer = build_optimizer(config, model)
    if config["ema_epochs"]:
        average = WeightAverage(model.parameters())
        window = max(1.0, config["ema_epochs"] * STEPS_PER_EPOCH)
        optimizer.register_step_post_hook(lambda *_: average.update(window))
    autocast = partial(
        torch.autocast, torch.device(config["device"]).type, enabled=bool(config["enable_amp"])
    )

    def step(batch: dict) -> None:
        optimizer.zero_grad()
        with autocast():
            loss = model.calculate_loss(batch)
        loss.backward()
        optimizer.step()

    return step


def alternating_milliseconds(steps, batches, clock=time.perf_counter) -> list[float]:
    """Median time of each step function; they take turns, so that all see the same machine.

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
