"""How well popularity and nearest neighbors rank each user's last event."""

import numpy as np
import polars as pl

from recbole_mm.prepare.prepared import PreparedDataset, unit_rows

TEST_USERS = 20_000
CHUNK = 512


def baselines(dataset: PreparedDataset) -> dict[str, dict[str, float]]:
    """Recall@10 and NDCG@10 of each user's last event, ranked among all items with interactions.

    One ranking is by popularity in all events except each user's last. Another, per modality, is by
    the cosine of the features to those of the previous event, whose item is excluded. Ties count
    half. Training has the same candidates, since RecBole knows the items of ``.inter``.
    """
    known = dataset.interactions["item_id"].unique(maintain_order=True)
    row_of = {token: row for row, token in enumerate(known)}
    history = dataset.in_time_order().group_by("user_id", maintain_order=True)
    events = history.agg("item_id").filter(pl.col("item_id").list.len() >= 2)["item_id"]
    rows = [[row_of[token] for token in user] for user in events]
    if not rows:
        return {}
    counts = np.bincount(np.concatenate([user[:-1] for user in rows]), minlength=len(row_of))
    step = -(-len(rows) // TEST_USERS)
    last, target = np.array([user[-2:] for user in rows[::step]]).T
    chunks = [slice(start, start + CHUNK) for start in range(0, len(target), CHUNK)]
    popular = [_rank(np.tile(counts, (len(target[chunk]), 1)), target[chunk]) for chunk in chunks]
    found = {"popularity": _metrics(popular)}
    for modality in dataset.modalities():
        vectors = unit_rows(dataset.features(modality, known)[0])
        near = [_rank(_others(vectors, last[chunk]), target[chunk]) for chunk in chunks]
        found[f"nearest by {modality}"] = _metrics(near)
    return found


def _metrics(ranks: list[np.ndarray]) -> dict[str, float]:
    rank = np.concatenate(ranks)
    hit = rank < 10
    gain = np.where(hit, 1 / np.log2(rank + 2), 0)
    return {"Recall@10": round(float(hit.mean()), 4), "NDCG@10": round(float(gain.mean()), 4)}


def _others(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosine of some items to all items, with each item itself ranked last."""
    similarity = vectors[rows] @ vectors.T
    similarity[np.arange(len(rows)), rows] = -2
    return similarity


def _rank(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Number of items above the target, plus half of those tied with it."""
    own = np.take_along_axis(scores, target[:, None], axis=1)
    return (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2
