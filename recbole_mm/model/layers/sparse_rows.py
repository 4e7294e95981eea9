r"""Weighted sums of rows of a sparse matrix."""

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn


class SparseRows(nn.Module):
    """A sparse matrix ``(n, m)`` whose rows are summed; it is saved with the model.

    Args:
        matrix: sparse matrix; its entries are converted to float32.
    """

    def __init__(self, matrix: csr_matrix):
        super().__init__()
        self.width = matrix.shape[1]
        self.register_buffer("start", torch.from_numpy(matrix.indptr.astype(np.int64)))
        self.register_buffer("column", torch.from_numpy(matrix.indices.astype(np.int64)))
        self.register_buffer("value", torch.from_numpy(matrix.data.astype(np.float32)))

    def forward(self, row: Tensor, weight: Tensor) -> Tensor:
        """Weighted sums of rows, ``(b, m)``; the cost is proportional to the entries of these rows.

        Args:
            row: ``(b, l)`` int64.
            weight: weight of each row, ``(b, l)``.
        """
        first = self.start[row].flatten()
        count = self.start[row + 1].flatten() - first
        term = torch.repeat_interleave(torch.arange(row.numel(), device=row.device), count)
        before = count.cumsum(0) - count
        entry = first[term] + torch.arange(len(term), device=row.device) - before[term]
        place = term // row.shape[1] * self.width + self.column[entry]
        total = self.value.new_zeros(len(row) * self.width)
        total.index_add_(0, place, weight.flatten()[term] * self.value[entry])
        return total.view(len(row), self.width)
