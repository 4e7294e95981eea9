"""Damaged files for every reader, with a fixed seed; ``python tests/fuzz.py`` tries more."""

import pytest
from fuzz import Bench, Shelf
from readers import READERS

INPUTS = 4
"""Of the slowest readers."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gives_a_result_or_our_error_that_names_it(name, shelf, tmp_path):
    bench = Bench(READERS[name], shelf, tmp_path / "bench")
    bench.read_valid()

    tried = [bench.attempt(seed) for seed in range(1, 1 + INPUTS * READERS[name].speed)]

    failed = [
        (seed, t.file.name, t.why) for seed, t in enumerate(tried, 1) if t.outcome == "failed"
    ]
    assert failed == []


@pytest.mark.parametrize("name", ["inter", "features", "properties"])
def test_the_same_seed_gives_the_same_input(name, shelf, tmp_path):
    first, second = (Bench(READERS[name], shelf, tmp_path / n) for n in "ab")

    for seed in range(5):
        assert first.damage(seed).read_bytes() == second.damage(seed).read_bytes()
        first._restore(), second._restore()
