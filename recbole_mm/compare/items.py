r"""What slices and reports need to know of a data set, once for all runs."""

from typing import NamedTuple

import numpy as np
import polars as pl
from recbole.data import create_dataset

from recbole_mm.compare.protocols import share_of_later_training
from recbole_mm.config import ConfigError
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.register import multi_modal_dataset_for


class Described(NamedTuple):
    """A data set under a protocol.

    Attributes:
        items: ``item``, ``training_count``, ``has_<modality>`` for every feature file.
        later: share of the training that is later than a test event, on average; ``None``
            without times.
        counts: users, items, interactions, and targets of each part.
    """

    items: pl.DataFrame
    later: float | None
    counts: dict[str, int]


def describe(config) -> Described:
    """Load and split the data of a configuration.

    Args:
        config: of any sequential model.

    Raises:
        ConfigError: the data cannot be read, or not be split in this way.
    """
    ensure_builtin(config)
    try:
        with multi_modal_dataset_for(config["model"]):
            dataset = create_dataset(config)
        n_interactions = len(dataset.inter_feat)
        modalities = dataset.find_modalities()
        present = {m: dataset.presence(m) for m in modalities}
        train, valid, test = dataset.build()
    except ValueError as error:
        raise ConfigError(str(error)) from error
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
    return Described(pl.DataFrame(columns), later, counts)
