import sys
import types

import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.backend import mamba_ssm_scan
from recbole_mm.model.layers.ssd import ssd


@pytest.fixture
def kernel(monkeypatch):
    """mamba_ssm's scan according to its documentation, instead of the CUDA kernel."""

    def mamba_chunk_scan_combined(x, dt, A, B, C, **_):
        return ssd(x, dt, A, B, C)

    for name in ("mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.triton"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    module = types.ModuleType("mamba_ssm.ops.triton.ssd_combined")
    module.mamba_chunk_scan_combined = mamba_chunk_scan_combined
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("kernel")
def test_the_kernel_is_called_so_that_it_computes_ssd():
    x, B, C = torch.randn(2, 5, 4, 3), torch.randn(2, 5, 2, 6), torch.randn(2, 5, 2, 6)
    dt, A, skip = torch.rand(2, 5, 4), -torch.rand(4), torch.randn(2, 5, 4)

    assert_close(mamba_ssm_scan(x, dt, A, B, C), ssd(x, dt, A, B, C))
    assert_close(mamba_ssm_scan(x, dt, A, B, C, skip), ssd(x, dt, A, B, C, skip))
