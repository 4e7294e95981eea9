r"""Weights averaged over the last steps of training."""

import math
from collections.abc import Callable, Collection, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recbole_mm.training.optimizers import JointOptimizer

ROWS_PER_BLOCK = 65_536


class WeightAverage:
    r"""Exponential moving average of a model's trainable parameters.

    After step :math:`t` of a window of :math:`w` steps, with :math:`\beta = 1 - 1/w`, the average is
    :math:`\sum_s \beta^{t-s} \theta_s / \sum_s \beta^{t-s}`: over all steps at the beginning, over
    about the last :math:`w` later. One copy of these parameters is kept (torch's ``AveragedModel``
    copies the whole model, including frozen features).

    Args:
        parameters: parameters of the model; frozen ones are ignored.
        tables: parameters with sparse gradients; a step changes only the rows of the gradient, and
            :meth:`update` reads no other rows. :meth:`before_step` must be called before each step.

    Reference:
        Boris Polyak and Anatoli Juditsky. "Acceleration of stochastic approximation by averaging."
        SIAM J. Control Optim. 30 (1992); with decay and correction as for the moments of Adam
        (arXiv 1412.6980).
    """

    def __init__(self, parameters: Iterable[nn.Parameter], tables: Collection[nn.Parameter] = ()):
        self.parameters: list[Tensor] = [p for p in parameters if p.requires_grad]
        self.average = [p.detach().clone() for p in self.parameters]
        self.total_weight = 0.0
        self._log_decay = 0.0
        by_row = {id(table) for table in tables}
        places = range(len(self.parameters))
        self._dense = [place for place in places if id(self.parameters[place]) not in by_row]
        self._tables = {
            place: _ChangedRows(self.parameters[place])
            for place in places
            if id(self.parameters[place]) in by_row
        }

    @torch.no_grad()
    def before_step(self, *_) -> None:
        """Record the rows that the step will change, after applying earlier steps to their
        average."""
        for place, table in self._tables.items():
            gradient = self.parameters[place].grad
            table.rows = table.rows[:0] if gradient is None else gradient._indices()[0].unique()
            if self.total_weight:
                table.catch_up(*self._pair(place), table.rows, self._mark)

    @torch.no_grad()
    def update(self, window: float) -> None:
        """Add the parameters after a step to the average.

        Args:
            window: ``w >= 1`` steps; 1 keeps only the last step.
        """
        decay = 1 - 1 / window
        self.total_weight = 1 + decay * self.total_weight
        self._log_decay += math.log(decay or 1e-300)
        weight = 1 / self.total_weight
        averages = [self.average[place] for place in self._dense]
        torch._foreach_lerp_(averages, [self.parameters[place] for place in self._dense], weight)
        for place, table in self._tables.items():
            average, parameter = self._pair(place)
            average[table.rows] = average[table.rows].lerp(parameter[table.rows], weight)
            table.mark[table.rows] = self._mark

    @torch.no_grad()
    def apply(self) -> None:
        """Replace the parameters by the average; before the first step nothing changes."""
        if self.total_weight:
            self._complete()
            torch._foreach_copy_(self.parameters, self.average)

    @contextmanager
    def applied(self):
        """Replace the parameters by the average within the block, without copying either."""
        exchanged = bool(self.total_weight)
        if exchanged:
            self._complete()
            self._exchange()
        try:
            yield
        finally:
            if exchanged:
                self._exchange()

    def state_dict(self) -> dict[str, Any]:
        if self.total_weight:
            self._complete()
        return {"average": self.average, "total_weight": self.total_weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch._foreach_copy_(self.average, state["average"])
        self.total_weight, self._log_decay = state["total_weight"], 0.0
        for table in self._tables.values():
            table.mark.fill_(self._mark)

    def _pair(self, place: int) -> tuple[Tensor, Tensor]:
        return self.average[place], self.parameters[place].detach()

    @property
    def _mark(self) -> float:
        """See :class:`_ChangedRows`."""
        return math.log(self.total_weight) - self._log_decay if self.total_weight else -math.inf

    @torch.no_grad()
    def _complete(self) -> None:
        """Bring all rows of the tables up to the last step."""
        for place, table in self._tables.items():
            for first in range(0, len(table.mark), ROWS_PER_BLOCK):
                rows = slice(first, first + ROWS_PER_BLOCK)
                table.catch_up(*self._pair(place), rows, self._mark)

    def _exchange(self) -> None:
        for place, parameter in enumerate(self.parameters):
            self.average[place], parameter.data = parameter.data, self.average[place]


def averaging(
    optimizer, parameters: Iterable[nn.Parameter], window: Callable[[], float]
) -> WeightAverage:
    """Create an average that is updated at every step of an optimizer.

    Args:
        optimizer: result of :func:`~recbole_mm.training.optimizers.build_optimizer`.
        parameters: parameters of the model.
        window: function that returns the window at each step, see :meth:`WeightAverage.update`.
    """
    tables = optimizer.tables if isinstance(optimizer, JointOptimizer) else []
    average = WeightAverage(parameters, tables)
    if tables:
        optimizer.register_step_pre_hook(average.before_step)
    optimizer.register_step_post_hook(lambda *_: average.update(window()))
    return average


class _ChangedRows:
    r"""The step up to which each row of a table's average is known.

    While a parameter :math:`\theta` does not change from step :math:`s` to :math:`t`, its distance
    to its average shrinks by :math:`\prod_{k=s+1}^{t} (1 - 1/W_k) = \beta^{t-s} W_s / W_t`, where
    :math:`W` is the total weight. So the step of a row is stored as :math:`\log W_s - s \log
    \beta`, its mark.
    """

    def __init__(self, table: Tensor):
        self.mark = torch.full((len(table),), -torch.inf, dtype=torch.float64, device=table.device)
        self.rows = torch.empty(0, dtype=torch.int64, device=table.device)

    def catch_up(
        self, average: Tensor, parameter: Tensor, rows: Tensor | slice, mark: float
    ) -> None:
        """Bring rows up to the step with this mark; their parameters have not changed since their
        own."""
        share = (self.mark[rows] - mark).exp().to(average.dtype).unsqueeze(1)
        average[rows] = torch.lerp(parameter[rows], average[rows], share)
        self.mark[rows] = mark
