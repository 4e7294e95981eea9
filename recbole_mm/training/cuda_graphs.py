"""A model's loss and gradients as CUDA graphs, which launch all kernels of a pass at once."""

from collections.abc import Callable
from logging import getLogger

import torch
from recbole.data.interaction import Interaction
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError, refuse_together

DEPENDENT_ON_DATA = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique", "_unique2",
    "unique_consecutive", "repeat_interleave", "equal", "bincount",
}  # fmt: skip
"""Operators whose result has a shape that depends on the data, or is a Python number."""


class DependsOnData(UserError):
    """The model's computation depends on the data and cannot be recorded."""


class _RefuseDependentOnData(TorchDispatchMode):
    """Raise an error within the block for an operator that cannot be recorded."""

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
        if name == "lift_fresh" and "cuda" in _devices((), result):
            raise DependsOnData("a number of the program becomes a tensor of the GPU")
        return result


def _devices(args: tuple, result: Tensor) -> set[str]:
    return {value.device.type for value in (*args, result) if isinstance(value, Tensor)}


def refuse_dependence_on_data(model, interaction) -> None:
    """Compute the loss of a batch and its gradients as they would be recorded.

    Args:
        model: model in training mode.
        interaction: a batch.

    Raises:
        DependsOnData: an operator's shape depends on the data; the message names it.
    """
    with model.at_fixed_length(), _RefuseDependentOnData():
        loss = model.calculate_loss(interaction)
        with torch.autocast(loss.device.type, enabled=False):
            torch.autograd.grad(loss, _trainable(model), allow_unused=True)


class GraphedLoss:
    """``calculate_loss`` of a model whose forward and backward pass are recorded once and replayed
    for every batch of the same shapes.

    A step of these models launches hundreds of kernels that take longer to launch than to run. The
    recorded pass has no shape that depends on the data: every history is computed at the full
    length. A batch of other shapes (the last of an epoch) is computed as usual, and so is every
    batch if the model or its settings cannot be recorded; a warning says why.

    Args:
        model: one of our models, on a GPU.

    Raises:
        UserError: there are several processes, or recording failed.
    """

    def __init__(self, model):
        refuse_together("cuda_graphs", {"several processes": processes.size() > 1})
        self.model = model
        self.shapes: dict[str, torch.Size] | None = None
        self.replay: Callable | None = None

    def __call__(self, interaction) -> Tensor:
        """The loss, 0-d; its gradients overwrite those of the last call."""
        batch = dict(interaction.interaction)
        shapes = {name: value.shape for name, value in batch.items()}
        if self.shapes is None:
            self.shapes = shapes
            self._record(batch)
        if self.replay is None or shapes != self.shapes:
            return self.model.calculate_loss(interaction)
        return self.replay(*batch.values())

    def _record(self, batch: dict[str, Tensor]) -> None:
        autocast = torch.is_autocast_enabled("cuda")
        # recording draws random numbers that an uninterrupted run would draw only once
        with torch.random.fork_rng([self.model.device]), self.model.at_fixed_length():
            try:
                if not self.model.can_be_recorded:
                    raise DependsOnData("it computes lengths and interests on the way")
                refuse_dependence_on_data(self.model, Interaction(batch))
            except DependsOnData as error:
                getLogger().warning(
                    f"cuda_graphs: the training step of {type(self.model).__name__} with these settings "
                    f"is not recorded and gets no faster ({error}). See the comment on this key in "
                    f"properties/multi_modal.yaml for what can be recorded"
                )
                return
            given = tuple(value.clone() for value in batch.values())
            loss = _LossOfTensors(self.model, list(batch), autocast)
            try:
                with torch.autocast("cuda", enabled=False):
                    self.replay = torch.cuda.make_graphed_callables(
                        loss, given, allow_unused_input=True
                    )
            except RuntimeError as error:
                raise UserError(
                    f"the training step of {type(self.model).__name__} cannot be recorded as a CUDA graph "
                    f"({str(error).strip().splitlines()[0]}). Set cuda_graphs: False."
                ) from error


class _LossOfTensors(nn.Module):
    """The loss as a function of the columns of a batch.

    Args:
        model: model whose loss is computed.
        names: column names.
        autocast: whether the forward pass is under autocast; its cache of lower-precision weights
            is off, since it would keep the weights of the recorded step forever.
    """

    def __init__(self, model, names: list[str], autocast: bool):
        super().__init__()
        self.model, self.names, self.autocast = model, names, autocast

    def forward(self, *columns: Tensor) -> Tensor:
        batch = Interaction(dict(zip(self.names, columns, strict=True)))
        with torch.autocast("cuda", enabled=self.autocast, cache_enabled=False):
            return self.model.calculate_loss(batch)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
