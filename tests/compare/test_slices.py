import numpy as np
import polars as pl
import pytest

from recbole_mm.compare.slices import least_of_head, slices

ITEMS = pl.DataFrame(
    {
        "item": ["a", "b", "c", "d", "e", "f"],
        "training_count": [50, 3, 2, 1, 1, 0],
        "has_text": [True] * 6,
        "has_image": [True, False, True, True, True, False],
    }
)
RANKS = pl.DataFrame(
    {
        "label": "A",
        "seed": 1,
        "user": ["u", "v", "w", "x"],
        "item": ["a", "b", "f", "c"],
        "rank": [1, 2, 3, 11],
        "history_length": [1, 4, 5, 19],
    }
)


def by_name(metric="Recall@2"):
    return {part.name: part for part in slices(RANKS, ITEMS, metric, "A")}


def test_popularity_is_that_of_training():
    parts = by_name()

    assert parts["cold (no training interaction)"].values["A"].value == 0  # f at rank 3
    assert parts["head (50 or more)"].values["A"].value == 1
    assert parts["tail (1 to 49)"].values["A"].value == 0.5
    assert sum(part.targets for part in parts.values() if part.kind == "popularity") == 4


@pytest.mark.parametrize(
    ("count", "least"),
    [
        ([1] * 90 + [2] * 15 + [9] * 2, 2),  # a fifth would be cut out of the ones
        (range(101), 81),
        ([0, 3, 3], 3),
        ([0], 1),
    ],
)
def test_head_is_about_a_fifth(count, least):
    assert least_of_head(np.array(count)) == least


def test_every_target_has_one_history_length_and_each_modality_or_not():
    parts = slices(RANKS, ITEMS, "Recall@2", "A")

    assert sum(part.targets for part in parts if part.kind == "history length") == 4
    image = {part.name: part.targets for part in parts if part.name.startswith("image")}
    assert image == {"image present": 2, "image missing": 2}


def test_a_slice_without_users_is_left_out():
    assert "text missing" not in by_name()


def test_differences_are_taken_from_the_baseline_within_the_slice():
    other = RANKS.with_columns(label=pl.lit("B"), rank=pl.Series([1, 3, 1, 1]))

    parts = {p.name: p for p in slices(pl.concat([RANKS, other]), ITEMS, "Recall@2", "A")}

    assert parts["cold (no training interaction)"].differences["B"].value == 1
    assert set(parts["image missing"].differences) == {"B"}
    assert parts["image missing"].differences["B"].value == 0  # b is lost, f is found
