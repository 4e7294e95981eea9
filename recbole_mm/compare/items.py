r"""What slices and reports need to know of a data set, once for all runs."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from recbole.data import create_dataset

from recbole_mm.compare.protocols import share_of_later_training
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.data.features import feature_path, find_modalities, read_item_features
from recbole_mm.register import multi_modal_dataset_for

BLOCK = 1 << 20


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
    """
    ensure_builtin(config)
    with multi_modal_dataset_for(config["model"]):
        dataset = create_dataset(config)
    train, valid, test = dataset.build()
    tokens = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str)
    count = np.bincount(train.inter_matrix().col, minlength=len(tokens))
    columns = {"item": tokens[1:], "training_count": count[1:]}
    folder = config["feature_path"] or config["data_path"]
    for modality in find_modalities(folder, config["dataset"]):
        path = feature_path(folder, config["dataset"], modality)
        columns[f"has_{modality}"] = read_item_features(path, tokens).present[1:].numpy()
    later = None
    if dataset.has_time:
        times = (part.inter_feat[dataset.time_field].numpy() for part in (train, test))
        later = share_of_later_training(*times)
    counts = {
        "users": dataset.user_num - 1,
        "items": dataset.item_num - 1,
        "interactions": len(train.history),
        "training targets": len(train),
        "validation targets": len(valid),
        "test targets": len(test),
    }
    return Described(pl.DataFrame(columns), later, counts)


def file_hashes(config) -> dict[str, str]:
    """SHA-256 of the interactions, the items and the feature files of a data set, by name."""
    name = config["dataset"]
    folders = {Path(config["data_path"]), Path(config["feature_path"] or config["data_path"])}
    files = [file for folder in folders for file in folder.glob(f"{name}.*") if file.is_file()]
    used = [file for file in files if file.suffix in (".inter", ".item", ".npz")]
    hashes = {}
    for file in sorted(used, key=lambda file: file.name):
        digest = hashlib.sha256()
        with open(file, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
        hashes[file.name] = digest.hexdigest()
    return hashes
