r"""Uncertainty of a comparison: over seeds, and over users.

With two or more seeds of both entries, the interval and the test of a difference show whether it
would hold for other users and other seeds; with one seed, for other users of the same trained
models. All targets of a user form one unit.
"""

from typing import NamedTuple

import numpy as np
import polars as pl
from scipy import stats

from recbole_mm.reporting.metrics import metric_values

RESAMPLES = 10_000
LEVEL = 0.95
LEAST_USERS = 10
"""Minimum number of users for an interval: resamples of fewer say little about other users."""
CELLS_PER_BLOCK = 4_000_000


class Interval(NamedTuple):
    """A value with its confidence interval over users, or over users and seeds.

    Attributes:
        value: mean over the targets of all users.
        low, high: limits; ``None`` for fewer than :data:`LEAST_USERS` users, or if all of them have
            the same value.
    """

    value: float
    low: float | None
    high: float | None


class Comparison(NamedTuple):
    """One entry against the baseline.

    Attributes:
        difference: entry minus baseline.
        p: two-sided p value.
        corrected_p: p value after Holm's correction for the number of entries.
        includes_seeds: whether interval and p generalize to other seeds as well as other users
            (:func:`welch_test`); otherwise, as with one seed, only to other users of these trained
            models (bootstrap and :func:`randomization_test`).
    """

    difference: Interval
    p: float
    corrected_p: float
    includes_seeds: bool


def seed_values(ranks: pl.DataFrame, metric: str) -> dict[str, list[float]]:
    """Mean of a metric over targets, by label, one value per seed.

    Args:
        ranks: columns ``label``, ``seed``, ``rank``.
    """
    values: dict[str, list[float]] = {}
    for (label, _), rows in ranks.sort("seed").group_by(["label", "seed"], maintain_order=True):
        mean = metric_values(rows["rank"].to_numpy(), metric).mean()
        values.setdefault(label, []).append(float(mean))
    return values


def deviation(values: list[float]) -> float | None:
    """Standard deviation over seeds; ``None`` for a single seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def user_table(ranks: pl.DataFrame, metric: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """A metric by user and label, averaged over seeds.

    Args:
        ranks: columns ``label``, ``user``, ``rank``; every label has the same targets.

    Returns:
        labels ``k``; sums over a user's targets ``(users, k)``; targets of a user ``(users,)``.

    Raises:
        ValueError: labels differ in their targets.
    """
    valued = ranks.with_columns(value=pl.Series(metric_values(ranks["rank"].to_numpy(), metric)))
    n_seeds = valued.group_by("label").agg(pl.col("seed").n_unique().alias("seeds"))
    table = (
        valued.group_by("label", "user", maintain_order=True)
        .agg(pl.col("value").sum(), pl.len().alias("n"))
        .join(n_seeds, on="label")
        .with_columns(pl.col("value") / pl.col("seeds"), pl.col("n") / pl.col("seeds"))
    )
    sums = table.pivot(on="label", index="user", values="value").sort("user").drop("user")
    counts = table.pivot(on="label", index="user", values="n").sort("user").drop("user")
    n = counts.to_numpy()
    if np.isnan(n.astype(float)).any() or (n != n[:, :1]).any():
        raise ValueError(
            f"the entries {', '.join(sums.columns)} were tested on different targets; "
            f"they are not comparable"
        )
    return sums.columns, sums.to_numpy(), n[:, 0].astype(float)


def bootstrap(sums: np.ndarray, counts: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means over targets when users are drawn with replacement.

    Args:
        sums: ``(users, k)``.
        counts: ``(users,)`` targets behind each sum.

    Returns:
        ``(RESAMPLES, k)``; the columns share their draws, so their differences are paired.
    """
    rng, n = np.random.default_rng(seed), len(counts)
    # users with one target and only zeros, often most users, are interchangeable
    plain = (counts == 1) & (sums == 0).all(1)
    others = np.column_stack([sums, counts])[~plain]
    k = len(others)
    drawn_others = rng.binomial(n, k / n, size=RESAMPLES)
    means, start = [], 0
    for size in _blocks(k):
        drawn = drawn_others[start : start + size]
        start += size
        cell = rng.integers(max(1, k), size=drawn.sum()) + np.repeat(k * np.arange(size), drawn)
        weight = np.bincount(cell, minlength=size * k).reshape(size, k)
        total = weight @ others
        means.append(total[:, :-1] / (total[:, -1] + n - drawn)[:, None])
    return np.concatenate(means)


def intervals(sums: np.ndarray, counts: np.ndarray) -> list[Interval]:
    """The mean over targets of every column, with its percentile interval over users."""
    values = sums.sum(0) / counts.sum()
    if len(counts) < LEAST_USERS:
        return [Interval(float(value), None, None) for value in values]
    low, high = np.quantile(bootstrap(sums, counts), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [
        Interval(float(v), float(a), float(b)) if a < b else Interval(float(v), None, None)
        for v, a, b in zip(values, low, high, strict=True)
    ]


def randomization_test(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two-sided p of the hypothesis that the signs of the users' differences are arbitrary.

    Args:
        differences: ``(users, k)``.

    Returns:
        ``(k,)``, at least ``1 / (RESAMPLES + 1)``.

    Note:
        :func:`scipy.stats.permutation_test` computes the same. For 20,000 users and 6 entries it
        takes five minutes, this function three seconds.
    """
    rng, n = np.random.default_rng(seed), len(differences)
    observed = np.abs(differences.sum(0))
    tolerance = 1e-12 * np.abs(differences).sum(0)  # sums in another order differ by rounding
    as_large = np.ones(differences.shape[1])
    for size in _blocks(n):
        signs = rng.integers(2, size=(size, n), dtype=np.int8) * 2.0 - 1.0
        as_large += (np.abs(signs @ differences) >= observed - tolerance).sum(0)
    return as_large / (RESAMPLES + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of ``(k,)`` p-values."""
    order = np.argsort(p)
    steps = np.minimum(1, p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty(len(p))
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def compare(ranks: pl.DataFrame, metric: str, baseline: str) -> dict[str, Comparison]:
    """Every other label against the baseline.

    Args:
        ranks: see :func:`user_table`.
        metric: name of the metric, e.g. ``NDCG@10``.
        baseline: label of the baseline.
    """
    others, differences, counts = _differences(ranks, metric, baseline)
    if not others:
        return {}
    of_seeds = seed_values(ranks, metric)
    fixed_models = None
    found = []
    for number, label in enumerate(others):
        if _have_spread(of_seeds[label], of_seeds[baseline], counts):
            found.append(
                welch_test(differences[:, number], counts, of_seeds[label], of_seeds[baseline])
            )
            continue
        if fixed_models is None:
            fixed_models = randomization_test(differences)
        (interval,) = intervals(differences[:, [number]], counts)
        found.append((interval, float(fixed_models[number])))
    corrected = holm(np.array([p for _, p in found]))
    return {
        label: Comparison(
            difference, p, float(q), _have_spread(of_seeds[label], of_seeds[baseline], counts)
        )
        for label, (difference, p), q in zip(others, found, corrected, strict=True)
    }


def welch_test(
    differences: np.ndarray, counts: np.ndarray, seeds: list[float], baseline_seeds: list[float]
) -> tuple[Interval, float]:
    r"""Interval and p of a difference, which generalize to other users AND other seeds.

    The variance of the mean difference is that of users (of their paired differences, averaged over
    seeds) plus that of the seeds of either entry, :math:`s^2/S`; degrees of freedom are
    Welch-Satterthwaite's. The interaction of seeds and users is in both parts, so the test is
    slightly conservative.

    Args:
        differences: sums over a user's targets, averaged over seeds, entry minus baseline
            ``(users,)``.
        counts: targets of each user ``(users,)``.
        seeds: mean over targets of each run of the entry, two or more.
        baseline_seeds: mean over targets of each run of the baseline, two or more.

    Returns:
        the interval, and the two-sided p.
    """
    n, mean = len(counts), differences.sum() / counts.sum()
    residuals = differences - mean * counts
    parts = [
        ((residuals**2).sum() * n / (n - 1) / counts.sum() ** 2, n - 1),
        *(
            (float(np.var(values, ddof=1)) / len(values), len(values) - 1)
            for values in (seeds, baseline_seeds)
        ),
    ]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(float(mean), None, None), 1.0 if mean == 0 else 0.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    margin = stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5
    p = 2 * stats.t.sf(abs(mean) / variance**0.5, freedom)
    return Interval(float(mean), float(mean - margin), float(mean + margin)), float(p)


def _have_spread(seeds: list[float], baseline_seeds: list[float], counts: np.ndarray) -> bool:
    """Whether the spread over seeds can be estimated for both."""
    return min(len(seeds), len(baseline_seeds)) > 1 and len(counts) >= LEAST_USERS


def _blocks(n: int) -> list[int]:
    """Sizes of blocks of resamples that bound the memory."""
    size = max(1, CELLS_PER_BLOCK // max(1, n))
    return [min(size, RESAMPLES - start) for start in range(0, RESAMPLES, size)]


def difference_intervals(ranks: pl.DataFrame, metric: str, baseline: str) -> dict[str, Interval]:
    """The differences of :func:`compare`, without the tests."""
    others, differences, counts = _differences(ranks, metric, baseline)
    of_seeds = seed_values(ranks, metric)
    found = {}
    for number, label in enumerate(others):
        column = differences[:, number]
        if _have_spread(of_seeds[label], of_seeds[baseline], counts):
            found[label], _ = welch_test(column, counts, of_seeds[label], of_seeds[baseline])
        else:
            (found[label],) = intervals(column[:, None], counts)
    return found


def _differences(
    ranks: pl.DataFrame, metric: str, baseline: str
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Labels ``k``, entry minus baseline by user ``(users, k)``, targets of a user ``(users,)``."""
    labels, sums, counts = user_table(ranks, metric)
    others = [label for label in labels if label != baseline]
    columns = sums[:, [labels.index(label) for label in others]]
    return others, columns - sums[:, [labels.index(baseline)]], counts
