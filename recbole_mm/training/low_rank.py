r"""Low-rank changes to the matrices of a pre-trained model (LoRA).

Reference:
    Hu et al. "LoRA: Low-rank adaptation of large language models." ICLR 2022 (arXiv 2106.09685).
"""

from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recbole_mm.tools.errors import UserError

START = 0.02
"""Standard deviation of the first factor; the second starts at zero, and so does the change."""


class Factors(NamedTuple):
    """A matrix ``(n, k)`` that becomes ``start + up @ down``.

    Attributes:
        weight: parameter of the model.
        down: ``(r, k)``.
        up: ``(n, r)``.
    """

    weight: nn.Parameter
    down: nn.Parameter
    up: nn.Parameter


def with_factors(
    model, groups: list[dict], rank: int, seed: int
) -> tuple[list[dict], list[Factors]]:
    """Replace the encoder's matrices by factors in groups of parameters.

    Args:
        model: model with ``encoder_parameters``.
        groups: groups of its trainable parameters, in the format of an optimizer.
        rank: rank ``r >= 1`` of the changes. Matrices whose smaller side is at most ``r`` are not
            replaced.
        seed: seed of the first factors, the same in every process.

    Raises:
        UserError: there is no such matrix.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    random = torch.Generator().manual_seed(seed)
    factors: list[Factors] = []

    def instead(parameter: nn.Parameter) -> list[nn.Parameter]:
        of_encoder = any(fnmatch(names[id(parameter)], each) for each in model.encoder_parameters)
        if not of_encoder or parameter.dim() != 2 or min(parameter.shape) <= rank:
            return [parameter]
        down = torch.randn(rank, parameter.shape[1], generator=random).mul_(START)
        down = nn.Parameter(down.to(parameter))
        up = nn.Parameter(parameter.new_zeros(parameter.shape[0], rank))
        factors.append(Factors(parameter, down, up))
        return [down, up]

    changed = [
        {**group, "params": [p for given in group["params"] for p in instead(given)]}
        for group in groups
    ]
    if not factors:
        raise UserError(
            f"lora_rank: {rank}: no trained matrix of the encoder of {type(model).__name__} "
            f"({', '.join(model.encoder_parameters) or 'it has none'}) is larger. Set a smaller rank, "
            f"lora_rank: 0, or freeze less."
        )
    return changed, factors


class LowRankSteps:
    r"""An optimizer whose steps change some matrices by a product of low rank.

    The gradients of the factors follow from the gradient :math:`G` of the matrix by the chain rule:
    :math:`G A^\top` and :math:`B^\top G`. The parameters of the model are plain matrices in every
    checkpoint; the factors are part of the optimizer's state.

    With ``ema_epochs``, a stored matrix is an average over steps, whose change strictly has a
    higher rank, but with small additional singular values.

    Args:
        optimizer: optimizer of the factors and the other parameters.
        factors: see :func:`with_factors`. A matrix starts from its value at the first step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, factors: list[Factors]):
        self.optimizer, self.factors = optimizer, factors
        self.starts: list[Tensor] = []
        self.hooks: list[Callable] = []

    @property
    def param_groups(self) -> list[dict]:
        """Parameter groups of the optimizer."""
        return self.optimizer.param_groups

    def zero_grad(self) -> None:
        """Clear the gradients, including those of the matrices."""
        self.optimizer.zero_grad()
        for weight, *_ in self.factors:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the factors and the other parameters, then the matrices."""
        self.starts = self.starts or [weight.clone() for weight, *_ in self.factors]
        for weight, down, up in self.factors:
            if weight.grad is not None:
                down.grad, up.grad = up.T @ weight.grad, weight.grad @ down.T
        self.optimizer.step()
        for start, (weight, down, up) in zip(self.starts, self.factors, strict=True):
            torch.addmm(start, up, down, out=weight)
        for hook in self.hooks:
            hook(self)

    def register_step_post_hook(self, hook: Callable) -> None:
        """Call ``hook`` after each step, when the matrices are up to date."""
        self.hooks.append(hook)

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state, the factors and the initial matrices."""
        pairs = [(down.detach(), up.detach()) for _, down, up in self.factors]
        return {"optimizer": self.optimizer.state_dict(), "factors": pairs, "starts": self.starts}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.optimizer.load_state_dict(state["optimizer"])
        for (_, down, up), stored in zip(self.factors, state["factors"], strict=True):
            down.copy_(stored[0])
            up.copy_(stored[1])
        self.starts = [start.to(self.factors[0].weight) for start in state["starts"]]
