"""Sizes of the blocks that are computed at once."""

import torch

ON_GPU = 1 << 26  # numbers, a quarter of a GB: few kernels are launched, and each fills the GPU


def numbers_at_once(on_cpu: int, device: torch.device) -> int:
    """The size of a block, in numbers: ``on_cpu`` on a CPU, which fits its cache; many more on a
    GPU."""
    return on_cpu if device.type == "cpu" else max(on_cpu, ON_GPU)
