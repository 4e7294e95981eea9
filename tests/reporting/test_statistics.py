import numpy as np
import polars as pl
import pytest
from scipy import stats

from recbole_mm.reporting import statistics
from recbole_mm.reporting.statistics import (
    bootstrap,
    compare,
    deviation,
    holm,
    intervals,
    randomization_test,
    seed_values,
    user_table,
    welch_test,
)


def table(**ranks_of_label):
    """Ranks of users u0, u1, ... with one target each and one seed."""
    return pl.concat(
        pl.DataFrame(
            {"label": label, "seed": 1, "user": [f"u{i}" for i in range(len(r))], "rank": list(r)}
        )
        for label, r in ranks_of_label.items()
    )


def test_mean_and_deviation_over_seeds():
    ranks = pl.DataFrame({"label": "A", "seed": [1, 1, 2, 2], "user": list("uvuv"), "rank": 1})
    ranks = ranks.with_columns(rank=pl.Series([1, 9, 1, 1]))

    values = seed_values(ranks, "Recall@5")

    assert values == {"A": [0.5, 1.0]}
    assert deviation(values["A"]) == pytest.approx(np.std([0.5, 1.0], ddof=1))
    assert deviation([0.5]) is None


def test_targets_of_a_user_stay_together_and_seeds_are_averaged():
    ranks = pl.DataFrame(
        {
            "label": "A",
            "seed": [1, 1, 1, 2, 2, 2],
            "user": ["u", "u", "v"] * 2,
            "rank": [1, 9, 1, 1, 1, 9],
        }
    )

    labels, sums, counts = user_table(ranks, "Recall@5")

    assert labels == ["A"]
    assert sums.tolist() == [[1.5], [0.5]]
    assert counts.tolist() == [2, 1]


def test_entries_with_different_targets_are_not_compared():
    with pytest.raises(ValueError, match="A, B were tested on different targets"):
        user_table(table(A=[1, 2], B=[1, 2, 3]), "Recall@5")


def test_an_interval_covers_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        (span,) = intervals(rng.random((60, 1)), np.ones(60))
        covered += span.low <= 0.5 <= span.high
    assert 0.89 <= covered / 200 <= 0.99


def test_resamples_do_not_depend_on_the_size_of_a_block(monkeypatch):
    sums, counts = np.random.default_rng(0).random((30, 2)), np.ones(30)
    whole = bootstrap(sums, counts)
    assert whole.shape == (statistics.RESAMPLES, 2)
    monkeypatch.setattr(statistics, "CELLS_PER_BLOCK", 30 * 7)
    assert np.allclose(bootstrap(sums, counts), whole)


@pytest.mark.parametrize("targets", [1, 3])
def test_users_without_a_hit_are_drawn_too(targets):
    sums, counts = np.zeros((1000, 2)), np.full(1000, targets)
    sums[:100, 0] = targets

    means = bootstrap(sums, counts)

    assert means.mean(0) == pytest.approx([0.1, 0], abs=5e-4)
    assert means.std(0) == pytest.approx([np.sqrt(0.1 * 0.9 / 1000), 0], rel=0.03)


def test_no_difference_has_a_large_p_and_a_clear_one_a_small_p():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=200)

    same, nothing, clear = randomization_test(np.column_stack([noise, np.zeros(200), noise + 1]))

    assert same > 0.05
    assert nothing == 1
    assert clear == 1 / (statistics.RESAMPLES + 1)


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 1.2])
def test_p_is_that_of_scipy_over_all_signs(shift):
    differences = np.random.default_rng(1).normal(shift, size=(12, 2)).round(1)  # with ties

    p = randomization_test(differences)

    exact = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, axis=0
    ).pvalue
    error = np.sqrt(exact * (1 - exact) / statistics.RESAMPLES)
    assert (np.abs(p - exact) <= 4 * error + 1 / statistics.RESAMPLES).all()


def test_holm_multiplies_by_what_is_left_and_stays_ordered():
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm(np.array([0.9, 0.8])).tolist() == [1, 1]


def test_a_better_entry_is_told_from_an_equal_one():
    rng = np.random.default_rng(0)
    base = rng.integers(1, 30, 300)
    ranks = table(base=base, better=np.maximum(1, base - 8), other=rng.permutation(base))

    found = compare(ranks, "NDCG@10", "base")

    assert set(found) == {"better", "other"}
    assert found["better"].difference.low > 0
    assert found["better"].corrected_p < 0.001
    assert found["other"].difference.low < 0 < found["other"].difference.high
    assert found["other"].corrected_p > 0.05
    assert found["better"].corrected_p >= found["better"].p


def seeded(rng, n_users, n_seeds, spread, **shifts):
    """Ranks of entries whose users, seeds and targets vary; a hit is rank 1."""
    ease = rng.normal(size=n_users)
    frames = []
    for label, shift in shifts.items():
        for seed in range(n_seeds):
            chance = 1 / (1 + np.exp(1 - ease - shift - rng.normal(scale=spread)))
            rank = np.where(rng.random(n_users) < chance, 1, 100)
            users = [f"u{user}" for user in range(n_users)]
            frames.append(pl.DataFrame({"label": label, "seed": seed, "user": users, "rank": rank}))
    return pl.concat(frames)


@pytest.mark.parametrize("spread", [0.0, 0.3])
@pytest.mark.parametrize("n_seeds", [3, 5])
def test_equal_entries_are_told_apart_as_rarely_as_the_level_says(spread, n_seeds):
    rng = np.random.default_rng(0)
    found = [
        compare(seeded(rng, 300, n_seeds, spread, a=0, b=0), "Recall@10", "b")["a"]
        for _ in range(150)
    ]

    assert all(comparison.includes_seeds for comparison in found)
    assert np.mean([comparison.p < 0.05 for comparison in found]) <= 0.08


def test_a_real_difference_is_found_in_spite_of_the_spread_over_seeds():
    ranks = seeded(np.random.default_rng(0), 3000, 5, 0.1, better=1.0, base=0)

    found = compare(ranks, "Recall@10", "base")["better"]

    assert found.p < 1e-4
    assert found.difference.low > 0.1


def test_with_one_seed_the_comparison_is_about_these_trained_models():
    ranks = seeded(np.random.default_rng(0), 300, 1, 0.3, a=0, b=0)

    assert not compare(ranks, "Recall@10", "b")["a"].includes_seeds


def test_welch_is_the_t_test_where_nothing_but_seeds_varies():
    a, b = [0.3, 0.34, 0.32], [0.25, 0.28, 0.26]
    difference = np.mean(a) - np.mean(b)

    interval, p = welch_test(np.full(50, difference), np.ones(50), a, b)

    expected = stats.ttest_ind(a, b, equal_var=False)
    assert p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert (interval.low, interval.high) == pytest.approx((low, high))
