"""A data set of a few rows, written by a test."""

import numpy as np
from recbole.data import data_preparation

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path, write_item_features

BASE = 1_700_000_000
ROWS = [
    ("u", "a", BASE + 1),
    ("v", "b", BASE + 5),
    ("u", "b", BASE + 2),
    ("u", "c", BASE + 2),
    ("v", "a", BASE + 5),
    ("u", "d", BASE + 130),
    ("v", "c", BASE + 5),
    ("w", "a", BASE),
]


def write_set(folder, rows, columns="user_id:token\titem_id:token\ttimestamp:float", **features):
    """A data set 'small' of (user, item, time) rows, with one-column features by modality."""
    folder = folder / "small"
    folder.mkdir(parents=True)
    lines = [columns, *("\t".join(str(v) for v in row) for row in rows)]
    (folder / "small.inter").write_text("\n".join(lines) + "\n")
    for modality, tokens in features.items():
        values = np.arange(1, len(tokens) + 1, dtype=np.float32)[:, None]
        write_item_features(feature_path(folder, "small", modality), tokens, values)
    return folder.parent


def config(data_path, model="MMM4Rec", **overrides):
    return load_config(model, "small", (), {"data_path": str(data_path), **overrides}, None, {})


def split(data_path, **overrides):
    settings = config(data_path, **overrides)
    dataset = MultiModalDataset(settings)
    return data_preparation(settings, dataset), dataset


def histories(loader, dataset):
    tokens = dataset.field2id_token["item_id"]
    users = dataset.field2id_token["user_id"]
    rows = loader._dataset[np.arange(len(loader._dataset))]
    return {
        (users[u], tokens[target]): [tokens[i] for i in seq[:n]]
        for u, target, seq, n in zip(
            rows["user_id"],
            rows["item_id"],
            rows["item_id_list"].tolist(),
            rows["item_length"],
            strict=True,
        )
    }


def random_rows(n_users=30, n_items=17, n=400, seed=0):
    random = np.random.default_rng(seed)
    times = random.permutation(n) * 1000  # distinct, so that RecBole's order is defined as well
    return [(f"u{random.integers(n_users)}", f"i{random.integers(n_items)}", int(t)) for t in times]
