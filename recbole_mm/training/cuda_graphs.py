"""The loss of a model and its gradients as CUDA graphs, which launch all kernels of a pass at once."""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError, refuse_together

DEPENDENT_ON_DATA = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique", "_unique2",
    "unique_consecutive", "repeat_interleave",
}  # fmt: skip
"""Operators whose result has a shape that depends on the data, or is a number for the program."""


class DependsOnData(UserError):
    """What a model computes cannot be recorded."""


class _RefuseDependentOnData(TorchDispatchMode):
    """Within the block an operator that cannot be recorded is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith(("index", "_index")) and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for given in args
            if isinstance(given, list | tuple)
            for index in given
        )
        if name in DEPENDENT_ON_DATA or by_mask:
            raise DependsOnData(f"{name} depends on the data")
        result = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_") and len(_devices(args, result)) > 1:
            raise DependsOnData(f"{name} moves data between GPU and CPU")
        return result


def _devices(args: tuple, result: Tensor) -> set[str]:
    return {value.device.type for value in (*args, result) if isinstance(value, Tensor)}


def refuse_dependence_on_data(model, interaction) -> None:
    """Compute the loss of a batch and its gradients as they would be recorded.

    Args:
        model: in training.
        interaction: a batch.

    Raises:
        DependsOnData: an operator's shape depends on the data; the message names it.
    """
    with _fixed_length(model), _RefuseDependentOnData():
        loss = model.calculate_loss(interaction)
        torch.autograd.grad(loss, _trainable(model), allow_unused=True)


class GraphedLoss:
    """``calculate_loss`` of a model whose forward and backward pass are recorded once, and replayed
    for every batch of the same shapes.

    A step of these models launches hundreds of kernels that take longer to launch than to run. What
    is recorded has no shape that depends on the data: every history is computed at the full length.
    A batch of other shapes (the last of an epoch) is computed as ever.

    Args:
        model: of ours, on a GPU.

    Raises:
        UserError: settings that do not work with it.
    """

    def __init__(self, model, config):
        steps = config["gradient_accumulation_steps"] or 1
        refused = {"several processes": processes.size() > 1}
        refused[f"gradient_accumulation_steps {steps}"] = steps > 1
        refuse_together("cuda_graphs", refused)
        self.model = model
        self.shapes: dict[str, torch.Size] | None = None
        self.replay: Callable | None = None

    def __call__(self, interaction) -> Tensor:
        """The loss, 0-d; its gradients are written over those of the last call."""
        batch = dict(interaction.interaction)
        shapes = {name: value.shape for name, value in batch.items()}
        if self.shapes is None:
            self._record(batch)
            self.shapes = shapes
        if shapes != self.shapes:
            return self.model.calculate_loss(interaction)
        assert self.replay is not None
        return self.replay(*batch.values())

    def _record(self, batch: dict[str, Tensor]) -> None:
        enabled = torch.is_autocast_enabled("cuda")
        # weights that autocast keeps would be those of this step for ever
        with (
            _fixed_length(self.model),
            torch.autocast("cuda", enabled=enabled, cache_enabled=False),
        ):
            try:
                refuse_dependence_on_data(self.model, Interaction(batch))
            except DependsOnData as error:
                raise UserError(
                    f"cuda_graphs does not work with {type(self.model).__name__} and these settings "
                    f"({error}). Set cuda_graphs: False."
                ) from None
            given = tuple(value.clone() for value in batch.values())
            loss = _LossOfTensors(self.model, list(batch))
            self.replay = torch.cuda.make_graphed_callables(loss, given, allow_unused_input=True)


class _LossOfTensors(nn.Module):
    """The loss as a function of the columns of a batch."""

    def __init__(self, model, names: list[str]):
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *columns: Tensor) -> Tensor:
        batch = dict(zip(self.names, columns, strict=True))
        return self.model.calculate_loss(Interaction(batch))


@contextmanager
def _fixed_length(model):
    """Within the block every history is computed at the full length."""
    before, model.fixed_length = model.fixed_length, True
    try:
        yield
    finally:
        model.fixed_length = before


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
