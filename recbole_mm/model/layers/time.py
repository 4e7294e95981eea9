r"""Time intervals of a history and the signals that a state space model derives from them.

A time signal ``tau`` is ``(b, h, L)``: one value per head and position. It always has the full
length ``L``: its layers mix the positions, so the size of their parameters depends on ``L``. The
paper's layers mix all positions; with ``causal``, a position depends only on itself and earlier
ones.
"""

from functools import cache
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.conv import CausalConv1d
from recbole_mm.model.layers.dropout import Dropout

SECONDS_PER_DAY = 86400.0
SILU_INVERSE_OF_ONE = 1.2784645


def time_intervals(timestamps: Tensor, lengths: Tensor, query_time: Tensor | None = None) -> Tensor:
    """Days between neighboring events; zero in the padding.

    Args:
        timestamps: unix seconds, ``(b, L)`` float64, right-padded.
        lengths: ``(b,)``.
        query_time: ``(b,)``, time of the request. With it, position ``t`` contains the interval
            *after* event ``t`` (for the last event, until the request); without it, the interval
            *before* event ``t`` (0 for the first).

    Returns:
        ``(b, L)`` in the dtype of ``timestamps``, ``>= 0`` (0 where time runs backward).
    """
    position = torch.arange(timestamps.shape[1], device=timestamps.device)
    real = position < lengths.unsqueeze(1)
    days = timestamps / SECONDS_PER_DAY
    if query_time is None:
        intervals = days.diff(dim=1, prepend=days[:, :1])
    else:
        following = days.roll(-1, dims=1)
        last = position == lengths.unsqueeze(1) - 1
        following = torch.where(last, query_time.unsqueeze(1) / SECONDS_PER_DAY, following)
        intervals = following - days
    return intervals.clamp(min=0).masked_fill(~real, 0)


def in_other_order(values: Tensor, lengths: Tensor) -> Tensor:
    """Reorder the first values of each row, in the same order for all rows of the same length:
    every value moves, unless it is the only one.

    Args:
        values: ``(b, L)``.
        lengths: ``(b,)``, number of values to reorder in each row.
    """
    return values.gather(1, _other_orders(values.shape[1]).to(values.device)[lengths])


@cache
def _other_orders(longest: int) -> Tensor:
    """An order for each number of values to reorder, ``(longest + 1, longest)``: one cycle through
    all of them (Sattolo's algorithm), so that every value moves."""
    random = Random(0)
    orders = torch.arange(longest).repeat(longest + 1, 1)
    for n in range(longest + 1):
        order = list(range(n))
        for last in range(n - 1, 0, -1):
            other = random.randrange(last)
            order[last], order[other] = order[other], order[last]
        orders[n, :n] = torch.tensor(order)
    return orders


def padded_differences(timestamps: Tensor, lengths: Tensor, target_time: Tensor) -> Tensor:
    """Differences of padded unix seconds, as in the first release of MMM4Rec.

    The first padded slot contains the time of the *target*, the others 0: a history shorter than
    ``L`` reveals when its target happened, and one difference is about ``-1.5e9``. Only for
    comparison with released numbers.

    Args:
        timestamps: unix seconds, ``(b, L)``, right-padded with 0.
        lengths: ``(b,)``.
        target_time: ``(b,)``.

    Returns:
        ``(b, L)`` in the dtype of ``timestamps``; the first difference is 0.
    """
    position = torch.arange(timestamps.shape[1], device=timestamps.device)
    leaked = torch.where(position == lengths.unsqueeze(1), target_time.unsqueeze(1), timestamps)
    return leaked.diff(dim=1, prepend=leaked[:, :1])


class LengthNorm(nn.Module):
    """LayerNorm over the ``L`` positions of a time signal.

    Args:
        length: ``L``.
        eps: constant added to the variance.
    """

    def __init__(self, length: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(length))
        self.bias = nn.Parameter(torch.zeros(length))
        self.eps = eps

    def forward(self, tau: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalize ``(b, h, L)``.

        Args:
            real: ``(b, 1, L)`` bool; mean and variance are taken over these positions, and the
                others become 0. ``None``: all positions count.
        """
        if real is None:
            return F.layer_norm(tau, self.weight.shape, self.weight, self.bias, self.eps)
        count = real.sum(-1, keepdim=True).clamp(min=1)
        centered = (tau - (tau * real).sum(-1, keepdim=True) / count) * real
        variance = centered.square().sum(-1, keepdim=True) / count
        return (centered * (variance + self.eps).rsqrt() * self.weight + self.bias) * real


class RunningNorm(LengthNorm):
    """:class:`LengthNorm` with the mean and variance of the positions so far."""

    def forward(self, tau: Tensor, real: Tensor | None = None) -> Tensor:
        """Normalize ``(b, h, L)``; ``real`` must select the first positions of each row."""
        count = torch.arange(1, tau.shape[-1] + 1, device=tau.device)
        mean = tau.cumsum(-1) / count
        variance = (tau.square().cumsum(-1) / count - mean.square()).clamp(min=0)
        normed = (tau - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return normed if real is None else normed * real


class PastLinear(nn.Linear):
    """Linear map of the positions, ``(..., L) -> (..., L)``, that reads no later position."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.tril(), self.bias)


class PastSum(nn.Linear):
    """``Linear(L, 1)`` of the positions so far, at every position: ``(..., L) -> (..., L)``."""

    def __init__(self, length: int):
        super().__init__(length, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight.squeeze(0)).cumsum(-1) + self.bias


class TimeScale(nn.Module):
    """Factors of the step sizes of a block: ``tau (b, h, L) -> (b, h, L)``.

    Each position is scaled by a function of all positions, or, with ``causal``, of the positions so
    far; two causal convolutions follow, each with ``activation``.
    """

    def __init__(
        self,
        n_heads: int,
        length: int,
        kernel_size: int,
        dropout: float,
        activation=F.silu,
        causal: bool = False,
    ):
        super().__init__()
        self.activation = activation
        self.dropout = Dropout(dropout)
        linear = PastLinear if causal else nn.Linear
        self.scale_in = linear(length, length)
        self.scale_out = linear(length, length)
        self.conv_in = CausalConv1d(n_heads, kernel_size)
        self.conv_out = CausalConv1d(n_heads, kernel_size)

    def start_as_one(self) -> None:
        """Initialize so that the output is about 1 (as without time), but depends on ``tau``.

        With small weights in ``scale_in`` and ``scale_out``, tanhshrink would cube a small number.
        """
        for linear in (self.scale_in, self.scale_out):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
        nn.init.ones_(self.scale_out.bias)
        nn.init.constant_(self.conv_out.bias, SILU_INVERSE_OF_ONE)

    def forward(self, tau: Tensor) -> Tensor:
        scale = F.tanhshrink(self.scale_out(F.silu(self.scale_in(self.dropout(tau)))))
        signal = self.activation(self.conv_in((tau * scale).transpose(1, 2)))
        return self.activation(self.conv_out(signal)).transpose(1, 2)


class TimeGate(nn.Module):
    r"""The time signal for the next layer: ``norm(g tau + (1 - g) t)``.

    Args:
        per_position: one gate per position instead of one for all positions.
        causal: whether no later position is read; a single gate then depends on the positions so
            far.
    """

    def __init__(
        self,
        length: int,
        dropout: float,
        eps: float,
        per_position: bool = False,
        causal: bool = False,
    ):
        super().__init__()
        self.dropout = Dropout(dropout)
        if causal:
            self.gate = PastLinear(length, length) if per_position else PastSum(length)
        else:
            self.gate = nn.Linear(length, length if per_position else 1)
        self.norm = (RunningNorm if causal else LengthNorm)(length, eps)

    def forward(self, tau: Tensor, t: Tensor, real: Tensor | None = None) -> Tensor:
        gate = torch.sigmoid(self.gate(self.dropout(tau)))
        return self.norm(gate * tau + (1 - gate) * t, real)
