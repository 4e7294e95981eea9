r"""Weights averaged over the last steps of training."""

from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    r"""Exponential moving average of a model's trainable parameters.

    After step :math:`t` of a window of :math:`w` steps, with :math:`\beta = 1 - 1/w`, the average is
    :math:`\sum_s \beta^{t-s} \theta_s / \sum_s \beta^{t-s}`: over all steps in the beginning, over
    about the last :math:`w` later. One copy of these parameters is kept (torch's ``AveragedModel``
    copies the model, frozen features and all).

    Args:
        parameters: of the model; the frozen ones are left out.

    Reference:
        Boris Polyak and Anatoli Juditsky. "Acceleration of stochastic approximation by averaging."
        SIAM J. Control Optim. 30 (1992); with decay and correction as the moments of Adam
        (arXiv 1412.6980).
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters: list[Tensor] = [p for p in parameters if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.total_weight = 0.0

    @torch.no_grad()
    def update(self, window: float) -> None:
        """Take the parameters of a step in.

        Args:
            window: ``w >= 1`` steps; 1 keeps the last step alone.
        """
        self.total_weight = 1 + (1 - 1 / window) * self.total_weight
        torch._foreach_lerp_(self.average, self.parameters, 1 / self.total_weight)

    @torch.no_grad()
    def apply(self) -> None:
        """Put the average in the place of the parameters; before the first step nothing changes."""
        if self.total_weight:
            torch._foreach_copy_(self.parameters, self.average)

    @contextmanager
    def applied(self):
        """The average in the place of the parameters within the block."""
        latest = [p.detach().clone() for p in self.parameters]
        self.apply()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self.parameters, latest)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self.average, "total_weight": self.total_weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.average, state["average"])
        self.total_weight = state["total_weight"]
