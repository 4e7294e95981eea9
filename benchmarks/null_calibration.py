"""How often equal entries differ significantly: the rate of p < .05 if there is no difference.

    python benchmarks/null_calibration.py

In the simulation, users differ in how easily they are served, seeds shift a whole entry by a
normally distributed amount (column ``spread``), and a target is a hit or not. The output is the
share of comparisons with p < .05, nominally .05, for the test over users and seeds, and for the
test over users of the same trained models.
"""

import argparse

import numpy as np

from recbole_mm.reporting.statistics import randomization_test, welch_test

SPREADS = (0.0, 0.05, 0.1, 0.3)
SEEDS = (1, 2, 3, 5, 10)


def simulate(rng, n_users: int, n_seeds: int, spread: float) -> np.ndarray:
    """Hits ``(2, seeds, users)`` of two equal entries."""
    ease = rng.normal(size=n_users)
    shift = rng.normal(scale=spread, size=(2, n_seeds, 1))
    return (rng.random((2, n_seeds, n_users)) < 1 / (1 + np.exp(1 - ease - shift))).astype(float)


def rates(rng, repeats: int, n_users: int, n_seeds: int, spread: float) -> tuple[float, float]:
    """Shares of p < .05 with and without the variance of the seeds."""
    with_seeds, without = [], []
    counts = np.ones(n_users)
    for _ in range(repeats):
        hits = simulate(rng, n_users, n_seeds, spread)
        difference = hits[0].mean(0) - hits[1].mean(0)
        if n_seeds > 1:
            with_seeds.append(welch_test(difference, counts, *hits.mean(2).tolist())[1] < 0.05)
        without.append(randomization_test(difference[:, None])[0] < 0.05)
    return (np.mean(with_seeds) if with_seeds else np.nan), float(np.mean(without))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--users", type=int, default=1000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    print(f"{'seeds':>6}{'spread':>8}{'users and seeds':>18}{'these models':>15}")
    for n_seeds in SEEDS:
        for spread in SPREADS:
            found = rates(rng, options.repeats, options.users, n_seeds, spread)
            print(f"{n_seeds:6}{spread:8}{found[0]:18.3f}{found[1]:15.3f}", flush=True)


if __name__ == "__main__":
    main()
