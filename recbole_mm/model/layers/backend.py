r"""Which implementation of the selective scan and of the causal convolution runs."""

from collections.abc import Callable
from importlib.util import find_spec
from logging import getLogger
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_mm.model.layers.conv import causal_conv1d
from recbole_mm.model.layers.ssd import ssd

BACKENDS = ("auto", "torch", "mamba_ssm")
PACKAGES = ("mamba_ssm", "causal_conv1d")
SMALLEST_STEP = 1e-12
INSTALL = "pip install 'recbole_mm[gpu]' (needs CUDA and its compiler)"


class Kernels(NamedTuple):
    """The two operations that a state space block is made of.

    Attributes:
        scan: ``(x, dA, B, C) -> y`` as :func:`~recbole_mm.model.layers.ssd.ssd`.
        conv: ``(x, weight, bias) -> y`` as :func:`~recbole_mm.model.layers.conv.causal_conv1d`.
    """

    scan: Callable[..., Tensor]
    conv: Callable[..., Tensor]


TORCH = Kernels(ssd, causal_conv1d)


def choose_kernels(backend: str, device: torch.device) -> Kernels:
    """The kernels for a backend; what was chosen is logged.

    Args:
        backend: ``torch``: exact, on every device; ``mamba_ssm``: the fused kernels of mamba_ssm
            and causal_conv1d, on CUDA only; ``auto``: the second where it runs, else the first.
        device: where the model runs.

    Raises:
        ValueError: another name; ``mamba_ssm`` is asked for and not installed, or the device is not
            CUDA.
    """
    if backend not in BACKENDS:
        raise ValueError(f"ssd_backend must be one of {BACKENDS}, not {backend!r}.")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    on_cuda = torch.device(device).type == "cuda"
    if backend == "mamba_ssm" and missing:
        raise ValueError(
            f"ssd_backend is mamba_ssm, which needs {' and '.join(missing)}: {INSTALL}."
        )
    if backend == "mamba_ssm" and not on_cuda:
        raise ValueError(
            f"ssd_backend is mamba_ssm, whose kernels run on CUDA only; the device is {device}. "
            f"Set ssd_backend: torch."
        )
    fused = on_cuda and not missing and backend != "torch"
    getLogger().info(f"ssd_backend: {'mamba_ssm' if fused else 'torch'} (asked for: {backend})")
    return Kernels(mamba_ssm_scan, fused_causal_conv1d) if fused else TORCH


def mamba_ssm_scan(x: Tensor, dA: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """:func:`~recbole_mm.model.layers.ssd.ssd` by the Triton kernels of mamba_ssm.

    The kernel takes ``dt`` and ``A`` apart and multiplies them; here ``dA`` is their product
    already, so it gets ``dt = -dA`` with ``A = -1`` and values divided by that step. A ``dA`` of 0
    (the state is kept) becomes a step whose decay rounds to 1 and that can be divided by.
    """
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    step = (-dA).clamp(min=SMALLEST_STEP)
    minus_one = -torch.ones(dA.shape[-1], device=dA.device, dtype=torch.float32)
    unscaled = x / step.unsqueeze(-1).to(x.dtype)
    return mamba_chunk_scan_combined(
        unscaled.contiguous(), step, minus_one, B.contiguous(), C.contiguous(), chunk_size=64
    )


def fused_causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """:func:`~recbole_mm.model.layers.conv.causal_conv1d` by the CUDA kernel of that name."""
    from causal_conv1d import causal_conv1d_fn

    return causal_conv1d_fn(x.transpose(1, 2), weight, bias).transpose(1, 2)
