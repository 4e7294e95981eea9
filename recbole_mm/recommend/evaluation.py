"""Metrics of a trained model on the test targets of its data set, with intervals over users."""

import numpy as np
import polars as pl
import torch

from recbole_mm.reporting.metrics import metric_values
from recbole_mm.reporting.statistics import Interval, intervals
from recbole_mm.training.ranking import SCORES_AT_ONCE, rank_by_counting

METRICS = ("NDCG@10", "Recall@10", "NDCG@20", "Recall@20", "MRR@10")


@torch.no_grad()
def ranks_of_targets(model, targets, batch_size: int) -> np.ndarray:
    """Ranks among all items, counted from 1 as in the evaluation.

    Args:
        model: trained model, in evaluation mode.
        targets: validation or test data, a :class:`~recbole_mm.data.dataset.MultiModalDataset`.
        batch_size: users per batch, fewer for a large catalog.

    Returns:
        ``(n,)`` int64, in the order of ``targets``.
    """
    ranks = []
    size = min(batch_size, max(1, SCORES_AT_ONCE // model.n_items))
    everything = torch.arange(len(targets))
    for first in range(0, len(targets), size):
        batch = targets[everything[first : first + size]].to(model.device)
        scores = model.full_sort_predict(batch)
        scores[:, 0] = -torch.inf  # the padding item, as in RecBole's evaluation
        ranks.append(rank_by_counting(scores, batch[model.ITEM_ID]) + 1)
    return torch.cat(ranks).cpu().numpy() if ranks else np.zeros(0, dtype=np.int64)


def metrics_of_targets(model, targets, batch_size: int) -> dict[str, Interval]:
    """Metrics of the test targets with 95% bootstrap intervals over users.

    Args:
        model: see :func:`ranks_of_targets`.
        targets: see :func:`ranks_of_targets`.
        batch_size: see :func:`ranks_of_targets`.

    Returns:
        intervals by the names of :data:`METRICS`; empty without targets.
    """
    rank = ranks_of_targets(model, targets, batch_size)
    if len(rank) == 0:
        return {}
    values = {metric: metric_values(rank, metric) for metric in METRICS}
    users = pl.DataFrame({"user": targets.inter_feat[targets.uid_field].numpy(), **values})
    sums = users.group_by("user", maintain_order=True).agg(pl.all().sum(), pl.len())
    counts = sums["len"].to_numpy().astype(float)
    return dict(zip(METRICS, intervals(sums.select(METRICS).to_numpy(), counts), strict=True))
