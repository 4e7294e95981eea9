"""The data of a target under a condition, and the conversion of epochs to optimizer steps."""

import math
from typing import NamedTuple

import numpy as np

from recbole_mm.data.sequences import n_tied_targets
from recbole_mm.run.splits import load_splits


class Description(NamedTuple):
    """A target under a condition.

    Attributes:
        counts: numbers of users, items, interactions, training users, and targets of each part;
            with held-out items, only these count as test targets.
        modalities: modalities of the model.
        held_out: tokens of the items that are excluded from training.
        tied_targets: test targets of leave-one-out that depend on the order of ties.
        steps_per_epoch: optimizer steps per epoch.
    """

    counts: dict[str, int]
    modalities: list[str]
    held_out: list[str]
    tied_targets: int
    steps_per_epoch: int


def describe(config) -> Description:
    """Load and split the data of a configuration.

    Raises:
        UserError: the data do not exist, or cannot be used or split in this way.
    """
    splits = load_splits(config)
    train, valid, test = (loader.dataset for loader in splits)
    tokens = np.asarray(train.field2id_token[train.iid_field]).astype(str)
    events = None if train.has_histories else train.events
    parts = (train, valid, test)
    held_out = train.held_out()
    tested = test.inter_feat[test.iid_field]
    counts = {
        "users": train.user_num - 1,
        "items": train.item_num - 1,
        "interactions": sum(map(len, parts)) if events is None else len(events),
        "training users": len(np.unique(train.inter_feat[train.uid_field].numpy())),
        "training targets": len(train.inter_feat),
        "validation targets": len(valid.inter_feat),
        "test targets": int(held_out[tested].sum()) if config["held_out_items"] else len(tested),
    }
    tied = 0
    if events is not None and train.has_time and "LS" in config["eval_args"]["split"]:
        tied = n_tied_targets(*(events[f].numpy() for f in (train.uid_field, train.time_field)))
    return Description(
        counts=counts,
        modalities=list(train.modalities),
        held_out=tokens[held_out.numpy()].tolist(),
        tied_targets=tied,
        steps_per_epoch=math.ceil(len(splits.train) / (config["gradient_accumulation_steps"] or 1)),
    )


def equal_steps(config, steps_of_all: int, steps: int, wanted: int | None) -> dict:
    """The epochs and the patience with which a model takes as many optimizer steps on a training
    set as on all users, and waits as long for a gain; rounded to whole epochs, at least one.

    The model is validated after its own, shorter epochs: the best epoch of a small training set
    comes after few steps.

    Args:
        config: configuration with ``epochs`` and ``stopping_step`` for all users.
        steps_of_all: optimizer steps of an epoch with all users.
        steps: optimizer steps of an epoch with this training set.
        wanted: optimizer steps in total; ``None``: those of the configured epochs on all users.

    Returns:
        the keys that change.
    """
    total = wanted or config["epochs"] * steps_of_all
    values = {
        "epochs": max(1, round(total / steps)),
        "stopping_step": round(config["stopping_step"] * steps_of_all / steps),
    }
    return {key: value for key, value in values.items() if value != config[key]}
