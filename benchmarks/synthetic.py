"""Random items, histories, data sets and settings at the sizes of the papers."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import torch

from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import ItemFeatures
from recbole_mm.tools.precision import matmul_precision
from recbole_mm.training.averaging import averaging
from recbole_mm.training.optimizers import build_optimizer

STEPS_PER_EPOCH = 100


def model_settings(model: str, **changes) -> RunConfig:
    """The defaults of a model, with a softmax over all items, and some values changed; without
    ``use_gpu``, on the CPU."""
    return load_config(
        model,
        changes.pop("dataset", "random"),
        config_dict={"use_gpu": False, "softmax": "full", **changes},
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
    """What a model reads from a data set: items that are all equally popular."""
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


def random_folder(
    folder: Path, n_users: int, n_items: int, events_per_user: float, width: int
) -> None:
    """Write a data set in RecBole's format: at least five events per user, with uniformly drawn
    items.

    Args:
        folder: folder to create; its name is that of the data set.
        n_users: number of users.
        n_items: number of items, without the padding.
        events_per_user: mean number of events per user, at least 5.
        width: width of the features of both modalities.
    """
    folder.mkdir(parents=True)
    draw = np.random.default_rng(0)
    counts = 5 + draw.geometric(1 / (events_per_user - 4), n_users) - 1
    users = np.repeat(np.arange(n_users), counts)
    items = draw.integers(n_items, size=len(users))
    times = 1.4e9 + 60 * np.arange(len(users))
    columns = {"user_id:token": users, "item_id:token": items, "timestamp:float": times}
    pl.DataFrame(columns).write_csv(folder / f"{folder.name}.inter", separator="\t")
    tokens = [str(item) for item in range(n_items)]
    for modality in ("text", "image"):
        values = draw.standard_normal((n_items, width), dtype=np.float32) * 0.05
        write_item_features(feature_path(folder, folder.name, modality), tokens, values)


def random_batch(
    rows: int, n_items: int, length: int, real_share: float, windows: bool = False
) -> dict:
    """A batch with geometric lengths, as on Amazon data: ``real_share`` of the positions are
    events; with ``windows`` every event is a target."""
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


def training_step(model, config, loss_of: Callable | None = None) -> Callable[[dict], None]:
    """What the trainer does with a batch: loss, gradients, a step of the optimizer, the average of
    the weights.

    Args:
        model: model in training mode.
        config: settings of the model.
        loss_of: loss function of a batch; ``None``: that of the model.
    """
    loss_of = loss_of or model.calculate_loss
    optimizer = build_optimizer(config, model)
    if config["ema_epochs"]:
        window = max(1.0, config["ema_epochs"] * STEPS_PER_EPOCH)
        averaging(optimizer, model.parameters(), lambda: window)
    autocast = partial(
        torch.autocast,
        torch.device(config["device"]).type,
        dtype=torch.bfloat16,
        enabled=bool(config["enable_amp"]),
    )

    def step(batch: dict) -> None:
        optimizer.zero_grad()
        with matmul_precision(config["matmul_precision"]):
            with autocast():
                loss = loss_of(batch)
            loss.backward()
        optimizer.step()

    return step
