r"""Ranks grouped by popularity of the target, length of the history, and modality.

Popularity is counted in training: ``cold`` items have no training interaction, ``head`` items are
the most popular fifth of the others, as closely as equal counts allow, ``tail`` items the rest.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from recbole_mm.reporting.statistics import Interval, difference_intervals, intervals, user_table

HEAD_SHARE = 0.2
LENGTHS = (("1 to 4", 1, 4), ("5 to 9", 5, 9), ("10 to 19", 10, 19), ("20 or more", 20, None))


class Slice(NamedTuple):
    """One part of the test targets.

    Attributes:
        kind: property that defines it, e.g. ``popularity``.
        name: name of the slice, e.g. ``cold``.
        users, targets: numbers of users and targets.
        values: label -> value with interval.
        differences: label -> paired difference from the baseline, with interval.
    """

    kind: str
    name: str
    users: int
    targets: int
    values: dict[str, Interval]
    differences: dict[str, Interval]


def slice_conditions(items: pl.DataFrame) -> list[tuple[str, str, pl.Expr]]:
    """Kind, name and condition of every slice.

    Args:
        items: ``item``, ``training_count``, and one bool column ``has_<modality>`` per modality.
    """
    least = least_of_head(items["training_count"].to_numpy())
    count, length = pl.col("training_count"), pl.col("history_length")
    conditions = [
        ("popularity", "cold (no training interaction)", count == 0),
        ("popularity", f"tail (1 to {least - 1})", (count > 0) & (count < least)),
        ("popularity", f"head ({least} or more)", count >= least),
    ]
    for name, low, high in LENGTHS:
        upper = pl.lit(True) if high is None else length <= high
        conditions.append(("history length", name, (length >= low) & upper))
    for column in items.columns:
        if column.startswith("has_"):
            modality = column.removeprefix("has_")
            conditions.append(("modality", f"{modality} present", pl.col(column)))
            conditions.append(("modality", f"{modality} missing", ~pl.col(column)))
    return conditions


def least_of_head(count: np.ndarray) -> int:
    """The least count of ``head`` items.

    Args:
        count: ``(n_items,)`` training interactions.
    """
    counts, n_items = np.unique(count[count > 0], return_counts=True)
    if not len(counts):
        return 1
    share = n_items[::-1].cumsum()[::-1] / n_items.sum()  # items with at least this count
    return int(counts[np.abs(share - HEAD_SHARE).argmin()])


def slices(ranks: pl.DataFrame, items: pl.DataFrame, metric: str, baseline: str) -> list[Slice]:
    """Every slice that has targets, with its number of users and its values.

    Args:
        ranks: ``label``, ``seed``, ``user``, ``item``, ``rank``, ``history_length``.
        items: see :func:`slice_conditions`.
        metric: name of the metric, e.g. ``NDCG@10``.
        baseline: label that the others are compared with.
    """
    joined = ranks.join(items, on="item", how="left")
    parts = []
    for kind, name, condition in slice_conditions(items):
        rows = joined.filter(condition)
        if rows.is_empty():
            continue
        labels, sums, counts = user_table(rows, metric)
        values = dict(zip(labels, intervals(sums, counts), strict=True))
        differences = difference_intervals(rows, metric, baseline)
        n_targets = round(counts.sum())
        parts.append(Slice(kind, name, len(counts), n_targets, values, differences))
    return parts
