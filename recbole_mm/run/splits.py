"""The only place where a data set is found or created, loaded and split."""

import os
from contextlib import contextmanager
from logging import getLogger
from typing import NamedTuple

from recbole.data import create_dataset, data_preparation
from recbole.data.dataloader import AbstractDataLoader

from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.integration.register import multi_modal_dataset_for
from recbole_mm.prepare.catalog import require_dataset
from recbole_mm.run.requirements import refuse_unfit_data
from recbole_mm.tools import processes
from recbole_mm.tools.errors import user_errors

SAVED_DATA_PATHS = ("dataset_save_path", "dataloaders_save_path")
NOWHERE = os.path.join(os.devnull, "nothing")
"""A path that cannot exist."""


class Splits(NamedTuple):
    """Loaders of the training, validation and test targets."""

    train: AbstractDataLoader
    valid: AbstractDataLoader
    test: AbstractDataLoader


def find_or_make(config) -> None:
    """Make sure that the files of ``config['dataset']`` exist.

    Raises:
        UserError: they do not exist and cannot be created here.
    """
    require_dataset(config)
    ensure_builtin(config)


@contextmanager
def pickled_data_ignored(config):
    """Hide pickled data sets from RecBole within the block, even those in ``checkpoint_dir``."""
    for key in SAVED_DATA_PATHS:
        config[key] = NOWHERE
    try:
        yield
    finally:
        for key in SAVED_DATA_PATHS:
            config[key] = None


def load_dataset(config):
    """Load the data set of a configuration, without splitting it.

    Every sequential model gets our data set class, hence the same split, event order and
    candidates.

    Raises:
        UserError: the data set does not exist or cannot be used.
    """
    find_or_make(config)
    opened = multi_modal_dataset_for(config["model"])
    with user_errors(), pickled_data_ignored(config), opened:
        dataset = create_dataset(config)
    refuse_unfit_data(config, dataset)
    return dataset


def load_splits(config) -> Splits:
    """Load and split the data of a configuration; each of several processes gets its share.

    Raises:
        UserError: the data set does not exist, or cannot be used or split in this way.
    """
    dataset = load_dataset(config)
    getLogger().info(dataset)
    size = config["train_batch_size"]
    config["train_batch_size"] = size * processes.size()
    with user_errors(), pickled_data_ignored(config):
        splits = Splits(*data_preparation(config, dataset))
    config["train_batch_size"] = size
    if not any(map(len, splits[1:])):
        leaves_one_out = "LS" in config["eval_args"]["split"]
        reason = ": leave-one-out needs a user with three events" if leaves_one_out else ""
        getLogger().warning(
            f"data set {config['dataset']!r} has no validation or test targets{reason}"
        )
    processes.split_batches(splits.train)
    return splits
