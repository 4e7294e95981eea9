"""An index by inner product finds the best items, whatever the lengths of their vectors."""

import faiss
import numpy as np
import pytest
import torch

from recbole_mm.model.layers.softmax import dot_products
from recbole_mm.recommend.onnx_files import RECOMMENDABLE
from recbole_mm.recommend.search_index import (
    ENOUGH,
    INDEX,
    History,
    Search,
    of_one_length,
    write_index,
    write_measured_index,
)

N_ITEMS, WIDTH = 500, 64


@pytest.fixture
def items():
    """Vectors of many lengths, most of them short."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(sigma=0.5, size=(N_ITEMS, 1))
    return (rng.normal(size=(N_ITEMS, WIDTH)) * lengths).astype(np.float32)


class Model:
    def __init__(self, items):
        self.items = items

    def all_items(self):
        return torch.from_numpy(self.items)

    def scores_with_neighbors(self, items):
        return dot_products(items)


class Served:
    def __init__(self, items):
        self.items = items
        self.arrays = {RECOMMENDABLE: np.ones(len(items), dtype=bool)}

    def score(self, user, rows=None):
        return user @ (self.items if rows is None else self.items[rows]).T


def test_one_more_coordinate_gives_one_length_and_the_same_products(items):
    longer = of_one_length(items)

    assert longer.shape == (N_ITEMS, WIDTH + 1)
    assert np.array_equal(longer[:, :WIDTH], items)
    assert np.linalg.norm(longer, axis=1) == pytest.approx(np.linalg.norm(items, axis=1).max())


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_index_finds_the_best_items_of_vectors_of_many_lengths(kind, items, tmp_path):
    users = np.random.default_rng(1).normal(size=(100, WIDTH)).astype(np.float32)

    report = write_measured_index(tmp_path, Model(items), Served(items), users, kind)

    assert faiss.read_index(str(tmp_path / INDEX)).d == WIDTH
    assert report.recall > 0.99


def test_a_graph_that_finds_too_little_is_built_again_of_vectors_of_one_length(tmp_path):
    rng = np.random.default_rng(0)
    items = rng.normal(size=(1000, WIDTH)) + 3 * rng.normal(size=(1, WIDTH))  # much in common
    items *= rng.lognormal(sigma=0.09, size=(1000, 1)) / np.linalg.norm(
        items, axis=1, keepdims=True
    )
    users = (items[:100] + 0.05 * rng.normal(size=(100, WIDTH))).astype(np.float32)
    items = items.astype(np.float32)
    write_index(tmp_path, Model(items), np.ones(1000, dtype=bool), "hnsw", one_length=False)
    before = Search(tmp_path, Served(items)).measure(users)

    report = write_measured_index(tmp_path, Model(items), Served(items), users, "hnsw")

    assert before.recall < ENOUGH
    assert report.recall > max(0.99, before.recall)
    assert faiss.read_index(str(tmp_path / INDEX)).d == WIDTH + 1


def test_what_is_added_to_the_items_of_the_history_counts(items, tmp_path):
    users = np.random.default_rng(1).normal(size=(20, WIDTH)).astype(np.float32)
    score = users @ items.T
    rows = np.argsort(-score, axis=1)[:, [0, 1, 400]]  # the best two, and a bad one
    histories = [History(each, np.float32([-1e3, -1e3, 1e3])) for each in rows]

    report = write_measured_index(
        tmp_path, Model(items), Served(items), users, "exact", histories=histories
    )

    search = Search(tmp_path, Served(items))
    assert report.recall == 1
    for user, own, history in zip(users, score, histories, strict=True):
        np.add.at(own, history.rows, history.added)
        expected = np.argsort(-own, kind="stable")[:10]
        assert search.best(user[None], 10, history).tolist() == expected.tolist()
