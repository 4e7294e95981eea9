r"""Which implementation of the selective scan runs."""

from importlib.util import find_spec
from logging import getLogger

import torch

from recbole_mm.model.layers.ssd import ssd

BACKENDS = ("auto", "torch", "mamba_ssm")
INSTALL = "pip install 'recbole_mm[gpu]' (needs CUDA and its compiler)"


def choose_scan(backend: str, device: torch.device):
    """A scan ``(x, dA, B, C) -> y`` with the meaning of :func:`recbole_mm.model.layers.ssd.ssd`.

    Args:
        backend: ``torch``: exact, on every device; ``mamba_ssm``: the fused kernels, on CUDA only;
            ``auto``: the second where it runs, else the first. What was chosen is logged.
        device: where the model runs.

    Raises:
        ValueError: another name.
        RuntimeError: ``mamba_ssm`` is asked for and not installed, or the device is not CUDA.
    """
    if backend not in BACKENDS:
        raise ValueError(f"ssd_backend must be one of {BACKENDS}, not {backend!r}.")
    installed = find_spec("mamba_ssm") is not None
    on_cuda = torch.device(device).type == "cuda"
    if backend == "mamba_ssm" and not installed:
        raise RuntimeError(f"ssd_backend is mamba_ssm, which is not installed: {INSTALL}.")
    if backend == "mamba_ssm" and not on_cuda:
        raise RuntimeError(
            f"ssd_backend is mamba_ssm, whose kernels run on CUDA only; the device is {device}. "
            f"Set ssd_backend: torch."
        )
    fused = backend == "mamba_ssm" or (backend == "auto" and installed and on_cuda)
    getLogger().info(f"ssd_backend: {'mamba_ssm' if fused else 'torch'} (asked for: {backend})")
    return mamba_ssm_scan if fused else ssd


def mamba_ssm_scan(x, dA, B, C):
    """:func:`~recbole_mm.model.layers.ssd.ssd` by the Triton kernels of mamba_ssm.

    The kernel takes ``dt`` and ``A`` apart and multiplies them; here ``dA`` is their product
    already, so it gets ``dt = -dA`` with ``A = -1`` and values divided by that step.
    """
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    step = (-dA).clamp(min=torch.finfo(torch.float32).tiny)
    minus_one = -torch.ones(dA.shape[-1], device=dA.device, dtype=torch.float32)
    unscaled = x / step.unsqueeze(-1).to(x.dtype)
    return mamba_chunk_scan_combined(
        unscaled.contiguous(), step, minus_one, B.contiguous(), C.contiguous(), chunk_size=64
    )
