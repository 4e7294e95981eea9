"""How precisely products of float32 matrices are computed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Within the block, products of float32 matrices have this precision.

    Args:
        precision: ``highest``, ``high`` or ``medium``, see
            :func:`torch.set_float32_matmul_precision`; on a CPU that has bfloat16, ``medium`` is
            bfloat16 with sums in float32.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
