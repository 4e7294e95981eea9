import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch.testing import assert_close

from recbole_mm.model.layers.sparse_rows import SparseRows


def test_weighted_rows_are_added():
    random = np.random.default_rng(0)
    matrix = random.random((6, 9)) * (random.random((6, 9)) < 0.4)
    matrix[2] = 0  # a row without entries
    rows = torch.tensor([[0, 2, 5], [3, 3, 1]])
    weights = torch.tensor([[1.0, 7.0, -2.0], [0.5, 0.25, 0.0]])

    found = SparseRows(csr_matrix(matrix))(rows, weights)

    expected = (weights.unsqueeze(2) * torch.tensor(matrix).float()[rows]).sum(dim=1)
    assert_close(found, expected)


def test_rows_without_any_entry_are_zero():
    assert SparseRows(csr_matrix((3, 4)))(torch.tensor([[1, 2]]), torch.ones(1, 2)).tolist() == [
        [0] * 4
    ]
