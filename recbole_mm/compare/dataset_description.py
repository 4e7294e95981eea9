r"""What slices and reports need to know about a data set and its split, computed once for all
runs."""

import json
from typing import NamedTuple

import numpy as np
import polars as pl
from recbole.utils.argument_list import dataset_arguments

from recbole_mm.compare.protocols import share_of_later_training
from recbole_mm.config.errors import ConfigError
from recbole_mm.data.sequences import n_tied_targets
from recbole_mm.run.splits import load_dataset
from recbole_mm.tools.errors import user_errors


class DatasetDescription(NamedTuple):
    """A data set as a protocol splits it.

    Attributes:
        items: ``item``, ``training_count``, ``has_<modality>`` for every feature file.
        later: share of the training events that are later than a test event, on average;
            ``None`` without times.
        counts: users, items, interactions, and targets of each part.
        targets: ``user``, ``item`` of the test targets, sorted.
        tied_targets: test targets of leave-one-out that depend on the order of ties.
    """

    items: pl.DataFrame
    later: float | None
    counts: dict[str, int]
    targets: pl.DataFrame
    tied_targets: int


def describe_common_dataset(configs: dict) -> DatasetDescription:
    """The data that all configurations have in common.

    Args:
        configs: configurations by label and seed; those that read the data in the same way share
            one load.

    Raises:
        ConfigError: two configurations differ in candidates or test targets; see also
            :func:`describe_dataset`.
    """
    ways: dict[str, tuple] = {}
    for (label, _), config in configs.items():
        way = json.dumps([config[key] for key in dataset_arguments], default=str)
        ways.setdefault(way, (label, config))
    (first, config), *others = ways.values()
    description = describe_dataset(config)
    for label, config in others:
        other = describe_dataset(config)
        if not other.targets.equals(description.targets):
            what = "is tested on other targets"
        elif other.counts["items"] != description.counts["items"]:
            what = "ranks other items"
        else:
            continue
        raise ConfigError(
            f"--models: {label} {what} than {first}: entries must read the same interactions "
            f"(load_col, filters) to be compared"
        )
    return description


def describe_dataset(config) -> DatasetDescription:
    """Load and split the data of a configuration.

    Args:
        config: configuration of any sequential model.

    Raises:
        ConfigError: the data cannot be read or cannot be split in this way, or nothing is left to
            train on or to test.
    """
    dataset = load_dataset(config)
    if dataset.has_histories:
        raise ConfigError(
            f"data set {config['dataset']!r}: its files hold histories; a comparison needs the events "
            f"themselves, files of users, items and times"
        )
    with user_errors():
        n_interactions = len(dataset.inter_feat)
        modalities = list(dict.fromkeys([*dataset.modalities, *dataset.find_modalities()]))
        present = {m: dataset.presence(m) for m in modalities}
        train, valid, test = dataset.build()
    for part, name in ((train, "training"), (test, "test")):
        if not len(part.inter_feat):
            raise ConfigError(
                f"data set {config['dataset']!r}: the split leaves no {name} targets of "
                f"{n_interactions} events of {dataset.user_num - 1} users: leave-one-out needs three "
                f"events per user; check the filters (user_inter_num_interval, val_interval, ...)"
            )
    users = np.asarray(dataset.field2id_token[dataset.uid_field]).astype(str)
    tokens = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str)
    columns = {"item": tokens[1:], "training_count": train.item_counts()[1:].numpy()}
    columns |= {f"has_{m}": has[1:].numpy() for m, has in present.items()}
    later = None
    if dataset.has_time:
        times = (part.inter_feat[dataset.time_field].numpy() for part in (train, test))
        later = share_of_later_training(*times)
    counts = {
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "interactions": n_interactions,
        "training targets": len(train.inter_feat),
        "validation targets": len(valid.inter_feat),
        "test targets": len(test.inter_feat),
    }
    targets = pl.DataFrame(
        {
            "user": users[test.inter_feat[test.uid_field].numpy()],
            "item": tokens[test.inter_feat[test.iid_field].numpy()],
        }
    ).sort("user", "item")
    return DatasetDescription(pl.DataFrame(columns), later, counts, targets, _tied_targets(dataset))


def _tied_targets(dataset) -> int:
    if not dataset.has_time or "LS" not in dataset.config["eval_args"]["split"]:
        return 0
    events = dataset.events
    fields = dataset.uid_field, dataset.time_field
    return n_tied_targets(*(events[field].numpy() for field in fields))
