r"""Implementations of the selective scan and of the causal convolution."""

from collections.abc import Callable, Collection
from importlib.util import find_spec
from logging import getLogger
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_mm.model.layers.conv import causal_conv1d
from recbole_mm.model.layers.ssd import ssd

BACKENDS = ("auto", "torch", "mamba_ssm")
PACKAGES = ("mamba_ssm", "causal_conv1d")
SHORT = 200
"""History length up to which the fused kernels save at most an eighth of a step, while their tuning
takes a minute or two at the first step."""
VECTOR = 8  # channels that the causal_conv1d kernel reads at once
INSTALL = "pip install 'recbole_mm[gpu]' (needs CUDA and its compiler)"


class Kernels(NamedTuple):
    """The two operations of a state space block.

    Attributes:
        scan: ``(x, dt, A, B, C, skip) -> y``, see :func:`~recbole_mm.model.layers.ssd.ssd`.
        conv: ``(x, weight, bias, before) -> y``, see
            :func:`~recbole_mm.model.layers.conv.causal_conv1d`.
    """

    scan: Callable[..., Tensor]
    conv: Callable[..., Tensor]


TORCH = Kernels(ssd, causal_conv1d)


def choose_kernels(
    backend: str, device: torch.device, max_length: int, channels: Collection[int]
) -> Kernels:
    """The kernels of a backend; the choice is logged.

    Args:
        backend: ``torch``: exact, on every device; ``mamba_ssm``: the fused kernels of mamba_ssm
            and causal_conv1d, on CUDA only; ``auto``: ``mamba_ssm`` for histories longer than
            :data:`SHORT` where it is available, else ``torch``.
        device: device of the model.
        max_length: maximum length of a history.
        channels: numbers of channels that are convolved together; the fused convolution supports
            only multiples of :data:`VECTOR`, and torch's is used if any other number occurs.

    Raises:
        ValueError: unknown name; ``mamba_ssm`` is not installed, or the device is not CUDA.
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
    long = backend == "mamba_ssm" or max_length > SHORT
    fused = on_cuda and not missing and backend != "torch" and long
    if not fused:
        getLogger().info(f"ssd_backend: torch (setting: {backend})")
        return TORCH
    convolves = not any(width % VECTOR for width in channels)
    by = "" if convolves else f"; convolutions by torch, as {VECTOR} does not divide {channels}"
    getLogger().info(f"ssd_backend: mamba_ssm (setting: {backend}{by})")
    return Kernels(mamba_ssm_scan, fused_causal_conv1d if convolves else causal_conv1d)


def mamba_ssm_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, skip: Tensor | None = None
) -> Tensor:
    """:func:`~recbole_mm.model.layers.ssd.ssd` with the Triton kernels of mamba_ssm."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined

    x, dt, B, C = (v.contiguous() for v in (x, dt, B, C))
    y = mamba_chunk_scan_combined(x, dt, A.float(), B, C, chunk_size=64)
    return y if skip is None else y + skip.unsqueeze(-1).to(x.dtype) * x


def fused_causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor, before: Tensor | None = None
) -> Tensor:
    """:func:`~recbole_mm.model.layers.conv.causal_conv1d` with the CUDA kernel of the same name;
    the number of channels must be a multiple of :data:`VECTOR`."""
    from causal_conv1d import causal_conv1d_fn

    x = x if before is None else x + before
    if any(stride % VECTOR for stride in x.stride()[:-1]):
        x = x.contiguous()
    return causal_conv1d_fn(x.transpose(1, 2), weight, bias).transpose(1, 2)
