"""What a step costs on any machine (floating point operations, bytes, memory), and what this
machine can do (products, copies)."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode


class Costs(NamedTuple):
    """Attributes:
    flops: operations of the matrix products, where a multiplication and an addition count as two;
        element-wise work is not counted.
    moved: bytes of memory traffic that even a perfectly fused step has, see
        :func:`count_costs`.
    """

    flops: int
    moved: int


class MachineRates(NamedTuple):
    """Attributes:
    products: operations per second of a large float32 matrix product.
    copies: bytes per second of a large copy, read and written.
    """

    products: float
    copies: float


def machine_rates(clock: Callable[[], float] = time.perf_counter, n: int = 2048) -> MachineRates:
    """The current rates of this machine: the best of two products of ``n`` x ``n`` / 2 x ``n``, and
    of two copies of sixteen times as many numbers as a factor has."""
    a, b = torch.randn(n, n // 2), torch.randn(n // 2, n)
    source = torch.randn(8 * n * n)
    copy = torch.empty_like(source)
    seconds = [_fastest(clock, lambda: torch.mm(a, b)), _fastest(clock, lambda: copy.copy_(source))]
    return MachineRates(n**3 / seconds[0], 2 * source.nbytes / seconds[1])


def _fastest(clock: Callable[[], float], work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(3):
        start = clock()
        work()
        seconds.append(clock() - start)
    return max(min(seconds[1:]), 1e-9)  # a coarse clock may not move


def count_costs(step: Callable, batch: dict, model: nn.Module, training: bool) -> Costs:
    """Count one step.

    The bytes are an estimate: every parameter is read once, and the tensors that are kept for the
    backward pass (or, without one, the result) are written once. Training reads these tensors
    again, reads the parameters a second time, writes and reads the gradients, and reads and writes
    the parameters and two moments of the optimizer.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    owned = {p.untyped_storage().data_ptr() for p in model.parameters()}
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        result = step(batch)
    weights = sum(p.nbytes for p in parameters)
    activations = sum(size for pointer, size in kept.items() if pointer not in owned)
    if training:
        return Costs(counter.get_total_flops(), (2 + 2 + 6) * weights + 2 * activations)
    return Costs(counter.get_total_flops(), weights + result.nbytes)


def peak_bytes(step: Callable, batch: dict, model: nn.Module) -> int:
    """The most memory of tensors, gradients included, that a step on a CPU has at any time beyond
    the model and the state of its optimizer."""
    model.zero_grad()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(batch)
    events = profiler.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest
