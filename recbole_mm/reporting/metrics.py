"""Metrics of one target, computed from its rank."""

import math

import numpy as np

from recbole_mm.config.errors import ConfigError

GAINS = {
    "recall": lambda _: 1.0,
    "hit": lambda _: 1.0,
    "ndcg": lambda rank: 1 / math.log2(rank + 1),
    "mrr": lambda rank: 1 / rank,
}
"""Value of a target at a rank within the list; 0 beyond it."""


def parse_metric(metric: str) -> tuple[str, int]:
    """``'NDCG@10'`` as ``('ndcg', 10)``.

    Raises:
        ConfigError: not a metric that can be computed from a rank.
    """
    name, _, k = metric.partition("@")
    if name.lower() not in GAINS or not k.isdigit() or int(k) == 0:
        raise ConfigError(
            f"metric {metric!r}: write NAME@K, with NAME one of {', '.join(GAINS)} and K >= 1, "
            f"e.g. NDCG@10"
        )
    return name.lower(), int(k)


def metric_values(rank: np.ndarray, metric: str) -> np.ndarray:
    """A metric of every target.

    Args:
        rank: ``(n,)`` int, from 1.
        metric: see :func:`parse_metric`.

    Returns:
        ``(n,)`` float64.
    """
    name, k = parse_metric(metric)
    gains = np.array([GAINS[name](r) for r in range(1, k + 1)] + [0.0])
    return gains[np.minimum(rank, k + 1) - 1]
