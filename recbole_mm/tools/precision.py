"""The precision of products of float32 matrices."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Set the precision of products of float32 matrices within the block.

    Args:
        precision: ``highest``, ``high`` or ``medium``, see
            :func:`torch.set_float32_matmul_precision`; on a CPU with bfloat16, ``medium`` is
            bfloat16 with sums in float32.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
