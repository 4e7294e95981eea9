r"""Time-aware Mamba-2 blocks and the layers around them.

Symbols: ``b`` batch, ``l`` positions that are computed, ``L`` the model's maximum length,
``D`` hidden size, ``E = expand * D`` inner size, ``h`` heads of size ``p = E / h``, ``g`` groups,
``n`` state size. Histories are right-padded; every block is causal over the positions of its
items, so the padding never reaches the last position of a history.

Reference:
    "MMM4Rec: A Transfer-Efficient Framework for Multi-modal Sequential Recommendation."
    arXiv 2506.02916.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.backend import TORCH, Kernels
from recbole_mm.model.layers.conv import CausalConv1d
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.fourier import CausalFilter, FourierFusion
from recbole_mm.model.layers.ssd import ssd_at
from recbole_mm.model.layers.time import TimeGate, TimeScale

SKIPS = ("dt_x", "x")
ACTIVATIONS = {"silu": F.silu, "hardswish": F.hardswish}
DT_MIN, DT_MAX = 1e-3, 1e-1
A_MIN, A_MAX = 1.0, 16.0


@dataclass(frozen=True)
class MambaSize:
    """Sizes and variants that all blocks of a model share.

    Attributes:
        hidden_size: ``D``.
        expand: ``E / D``.
        head_dim: ``p``.
        d_state: ``n``.
        n_groups: ``g``; heads of a group share their ``B`` and ``C``.
        d_conv: number of steps that a convolution reads.
        max_length: ``L``, the size of the time layers.
        use_time: whether time signals scale the step sizes.
        causal_time: whether a time signal at a position depends on earlier positions only.
        dropout: dropout on the outputs of blocks and feed-forward layers.
        time_dropout: dropout on time signals.
        norm_eps: epsilon of all norms except those of time signals.
        time_norm_eps: epsilon of the norms of time signals.
        skip: ``dt_x`` adds ``D * dt * x`` to a block's output (the released MMM4Rec), ``x`` adds
            ``D * x`` (mamba_ssm).
        time_gate_per_position: see :class:`~recbole_mm.model.layers.time.TimeGate`.
        cross_activation: ``silu`` or ``hardswish``, after the convolutions of a cross block.
    """

    hidden_size: int
    expand: int = 2
    head_dim: int = 64
    d_state: int = 64
    n_groups: int = 8
    d_conv: int = 4
    max_length: int = 20
    use_time: bool = True
    causal_time: bool = False
    dropout: float = 0.0
    time_dropout: float = 0.0
    norm_eps: float = 1e-12
    time_norm_eps: float = 1e-12
    skip: str = "dt_x"
    time_gate_per_position: bool = False
    cross_activation: str = "silu"

    def __post_init__(self):
        if self.inner_size % self.head_dim:
            raise ValueError(
                f"hidden_size {self.hidden_size} x expand {self.expand} = {self.inner_size} cannot "
                f"be divided into heads of head_dim {self.head_dim}; "
                f"set head_dim to one of {_listing(divisors(self.inner_size))}."
            )
        if self.n_heads % self.n_groups:
            raise ValueError(
                f"hidden_size {self.hidden_size} x expand {self.expand} / head_dim {self.head_dim} "
                f"= {self.n_heads} heads, which n_groups {self.n_groups} does not divide; set "
                f"n_groups to one of {_listing(divisors(self.n_heads))}{self._head_dims()}."
            )
        if self.skip not in SKIPS:
            raise ValueError(f"ssd_skip must be one of {SKIPS}, not {self.skip!r}.")
        if self.cross_activation not in ACTIVATIONS:
            raise ValueError(
                f"cross_activation must be one of {tuple(ACTIVATIONS)}, "
                f"not {self.cross_activation!r}."
            )

    def _head_dims(self) -> str:
        """The other fix, a head size with which the groups divide the heads."""
        per_group = self.inner_size // self.n_groups
        if per_group * self.n_groups < self.inner_size:
            return ""
        return f", or head_dim to one of {_listing(divisors(per_group))}"

    @property
    def inner_size(self) -> int:
        return self.expand * self.hidden_size

    @property
    def n_heads(self) -> int:
        return self.inner_size // self.head_dim

    @property
    def state_size(self) -> int:
        """Width of ``B`` and of ``C`` over all groups."""
        return self.n_groups * self.d_state


def divisors(number: int) -> list[int]:
    """The positive divisors of a number, ascending."""
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _listing(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


class GatedRMSNorm(nn.Module):
    """Gated root-mean-square norm before a linear layer: ``linear(rms_norm(y * silu(z)) * weight)``.

    The weight is multiplied into the columns of the layer, and the norm's scale into its output, so
    that neither requires a pass over the wide ``y``.
    """

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, y: Tensor, z: Tensor, linear: nn.Linear) -> Tensor:
        gated = y * F.silu(z)
        mean_square = torch.linalg.vecdot(gated, gated).unsqueeze(-1) / y.shape[-1]
        scale = (mean_square + self.eps).rsqrt()
        return torch.addcmul(linear.bias, F.linear(gated, linear.weight * self.weight), scale)


class SelectiveStateSpace(nn.Module):
    """The recurrence of a block and its parameters.

    Args:
        size: sizes and variants.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
    """

    def __init__(self, size: MambaSize, kernels: Kernels = TORCH):
        super().__init__()
        self.size, self.scan = size, kernels.scan
        # on the CPU: arithmetic on the meta device imports torch's compiler, which takes 2 s
        dt = torch.rand(size.n_heads, device="cpu") * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN)
        dt = dt.exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt again
        A = torch.empty(size.n_heads, device="cpu").uniform_(A_MIN, A_MAX)
        self.A_log = nn.Parameter(A.log())
        self.D = nn.Parameter(torch.ones(size.n_heads))

    def forward(
        self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, position: Tensor | None = None
    ) -> Tensor:
        """Compute all positions, or some of them.

        Args:
            x: ``(b, l, E)``.
            dt: step sizes before bias and softplus, ``(b, l, h)``.
            B: ``(b, l, g n)``.
            C: queries at the computed positions, ``(b, q, g n)``.
            position: computed positions ``(b, q)``; ``None``: all, ``q = l``.

        Returns:
            ``(b, q, E)``
        """
        size = self.size
        x = x.unflatten(-1, (size.n_heads, size.head_dim))
        B, C = (v.unflatten(-1, (size.n_groups, size.d_state)) for v in (B, C))
        dt = F.softplus(dt + self.dt_bias)
        skip = self.D * dt if size.skip == "dt_x" else self.D.expand_as(dt)
        A = -self.A_log.exp()
        if position is None:
            y = self.scan(x, dt, A, B, C, skip)
        else:
            y = ssd_at(x, dt, A, B, C, position, skip)
        return y.flatten(-2)


class LastPositions(NamedTuple):
    """The last positions of right-padded histories.

    Attributes:
        index: ``(b, k)`` int64, in order; 0 where a history has fewer positions.
        real: ``(b, k)`` bool, False at these padded entries.
    """

    index: Tensor
    real: Tensor

    @classmethod
    def of_lengths(cls, lengths: Tensor, k: int) -> "LastPositions":
        """The last ``k`` positions of histories of these lengths ``(b,)``."""
        index = lengths.unsqueeze(1) + torch.arange(-k, 0, device=lengths.device)
        return cls(index.clamp(min=0), index >= 0)

    def take(self, x: Tensor) -> Tensor:
        """``(b, l, c) -> (b, k, c)``"""
        row = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        return x[row, self.index]

    def cleared(self, x: Tensor) -> Tensor:
        """``x (b, k, c)`` with zeros before the start of a history."""
        return x * self.real.unsqueeze(-1)

    def last(self, k: int) -> "LastPositions":
        return LastPositions(self.index[:, -k:], self.real[:, -k:])


class TiSSD(nn.Module):
    """Time-aware state space block.

    Without time (``size.use_time`` false) its step sizes depend on the items only. Time signals do
    not depend on the items: :meth:`time_factors` is called before :meth:`forward`.

    Args:
        size: sizes and variants.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
        emits_time: whether a later layer needs the time signal.
    """

    def __init__(self, size: MambaSize, kernels: Kernels = TORCH, emits_time: bool = True):
        super().__init__()
        self.size = size
        self.emits_time = size.use_time and emits_time
        E, S = size.inner_size, size.state_size
        self.in_proj = nn.Linear(size.hidden_size, 2 * E + 2 * S + size.n_heads)
        self.conv = CausalConv1d(E + 2 * S, size.d_conv, kernels.conv)
        self.state_space = SelectiveStateSpace(size, kernels)
        self.norm = GatedRMSNorm(E, size.norm_eps)
        self.out_proj = nn.Linear(E, size.hidden_size)
        if size.use_time:
            self.time_scale = _time_scale(size, F.silu)
        if self.emits_time:
            self.time_gate = TimeGate(
                size.max_length,
                size.time_dropout,
                size.time_norm_eps,
                size.time_gate_per_position,
                size.causal_time,
            )

    def time_factors(self, tau: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Compute the factors of the step sizes from the time signal.

        Args:
            tau: time signal, ``(b, h, L)``.
            real: ``(b, 1, L)`` bool, see :class:`~recbole_mm.model.layers.time.LengthNorm`.

        Returns:
            factors ``(b, L, h)``, and the time signal for the next layer ``(b, h, L)``, if that
            layer needs one.
        """
        t = self.time_scale(tau)
        return t.transpose(1, 2), self.time_gate(tau, t, real) if self.emits_time else None

    def forward(self, u: Tensor, t: Tensor | None = None) -> Tensor:
        """Mix the positions of ``u``.

        Args:
            u: ``(b, l, D)``.
            t: factors of the step sizes, ``(b, l, h)``; ``None`` without time.

        Returns:
            ``(b, l, D)``
        """
        z, x, B, C, dt = self._weights()
        before = [bias for _, bias in (x, B, C)]
        mixed = self.conv.by_parts(*(u @ weight.T for weight, _ in (x, B, C)), before=before)
        x, B, C = (F.silu(part) for part in mixed)
        dt = F.linear(u, *dt)
        y = self.state_space(x, dt if t is None else dt * t, B, C)
        return self.norm(y, F.linear(u, *z), self.out_proj)

    def at(self, u: Tensor, t: Tensor | None, last: LastPositions, k: int) -> Tensor:
        """:meth:`forward` at the last ``k`` positions of each history only, ``(b, k, D)``.

        Args:
            u: ``(b, l, D)``.
            t: ``(b, l, h)`` or ``None``.
            last: the last ``k + d_conv - 1`` positions, or all if there are fewer.
            k: number of positions to compute.
        """
        z, x, B, C, dt = self._weights()
        recent = last.take(u)
        queries = last.cleared(F.linear(recent, *C))
        before = [x[1], B[1], None]
        mixed = self.conv.by_parts(u @ x[0].T, u @ B[0].T, queries, before=before)
        x, B, C = (F.silu(part) for part in (*mixed[:2], mixed[2][:, -k:]))
        dt = F.linear(u, *dt)
        y = self.state_space(x, dt if t is None else dt * t, B, C, last.last(k).index)
        return self.norm(y, F.linear(recent[:, -k:], *z), self.out_proj)

    def _weights(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of the projections to ``z``, ``x``, ``B``, ``C`` and ``dt``."""
        E, S = self.size.inner_size, self.size.state_size
        return split_linear(self.in_proj, [E, E, S, S, self.size.n_heads])


class CrossSSD(nn.Module):
    """State space block in which one stream (``q``) queries another (``u``)."""

    def __init__(self, size: MambaSize, kernels: Kernels = TORCH):
        super().__init__()
        self.size = size
        self.activation = ACTIVATIONS[size.cross_activation]
        E, S = size.inner_size, size.state_size
        self.u_in_proj = nn.Linear(size.hidden_size, E + S + size.n_heads)
        self.z_in_proj = nn.Linear(size.hidden_size, E)
        self.q_in_proj = nn.Linear(size.hidden_size, S)
        self.u_conv = CausalConv1d(E + S, size.d_conv, kernels.conv)
        self.q_conv = CausalConv1d(S, size.d_conv, kernels.conv)
        self.state_space = SelectiveStateSpace(size, kernels)
        self.norm = GatedRMSNorm(E, size.norm_eps)
        self.out_proj = nn.Linear(E, size.hidden_size)
        if size.use_time:
            self.time_scale = _time_scale(size, self.activation)

    def time_factors(self, tau: Tensor) -> Tensor:
        """Factors of the step sizes ``(b, L, h)`` from a time signal ``(b, h, L)``."""
        return self.time_scale(tau).transpose(1, 2)

    def forward(self, q: Tensor, u: Tensor, t: Tensor | None = None) -> Tensor:
        """Read ``u`` with the queries from ``q``.

        Args:
            q: ``(b, l, D)``.
            u: ``(b, l, D)``.
            t: factors of the step sizes, ``(b, l, h)``; ``None`` without time.

        Returns:
            ``(b, l, D)``
        """
        C = self.activation(self.q_conv(self.q_in_proj(q)))
        y = self.state_space(*self._read(u, t), C)
        return self.norm(y, self.z_in_proj(q + u), self.out_proj)

    def at_end(self, q: Tensor, u: Tensor, t: Tensor | None, last: LastPositions) -> Tensor:
        """:meth:`forward` at the last position of each history only, ``(b, 1, D)``.

        Args:
            q: querying stream at the last ``d_conv`` positions, or at all if there are fewer,
                ``(b, k, D)``.
            u: ``(b, l, D)``.
            t: ``(b, l, h)`` or ``None``.
            last: the positions of ``q``.
        """
        end = last.last(1)
        C = self.activation(self.q_conv.at_end(last.cleared(self.q_in_proj(q)))).unsqueeze(1)
        y = self.state_space(*self._read(u, t), C, end.index)
        return self.norm(y, self.z_in_proj(q[:, -1:] + end.take(u)), self.out_proj)

    def _read(self, u: Tensor, t: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        sizes = [self.size.inner_size, self.size.state_size, self.size.n_heads]
        x, B, dt = split_linear(self.u_in_proj, sizes)
        mixed = self.u_conv.by_parts(u @ x[0].T, u @ B[0].T, before=[x[1], B[1]])
        x, B = (self.activation(part) for part in mixed)
        dt = F.linear(u, *dt)
        return x, dt if t is None else dt * t, B


def _time_scale(size: MambaSize, activation) -> TimeScale:
    return TimeScale(
        size.n_heads,
        size.max_length,
        size.d_conv,
        size.time_dropout,
        activation,
        size.causal_time,
    )


def split_linear(linear: nn.Linear, sizes: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias of each part of a layer's output."""
    return list(zip(linear.weight.split(sizes), linear.bias.split(sizes), strict=True))


class FeedForward(nn.Module):
    """Position-wise feed-forward layer, then residual and norm."""

    def __init__(self, hidden_size: int, inner_size: int, dropout: float, eps: float):
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, inner_size)
        self.fc2 = nn.Linear(inner_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(F.hardswish(self.fc1(x)))
        return self.norm(self.dropout(self.fc2(inner)) + x)


class TiSSDLayer(nn.Module):
    """A :class:`TiSSD` block with residual and norm, then a feed-forward layer.

    Args:
        size: sizes and variants.
        inner_size: inner size of the feed-forward layer; 0: no such layer.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
        emits_time: see :class:`TiSSD`.
    """

    def __init__(
        self, size: MambaSize, inner_size: int, kernels: Kernels = TORCH, emits_time: bool = True
    ):
        super().__init__()
        self.ssd = TiSSD(size, kernels, emits_time)
        self.dropout = Dropout(size.dropout)
        self.norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.ffn = _feed_forward(size, inner_size)

    def forward(self, u: Tensor, t: Tensor | None = None) -> Tensor:
        """See :meth:`TiSSD.forward`."""
        return self.ffn(self.norm(self.dropout(self.ssd(u, t)) + u))


class CrossLayer(nn.Module):
    """One stream (``v``) is mixed, then queries a second one (``e``), which is already encoded.

    The mixing block belongs to the layer that encoded ``e``.
    """

    def __init__(self, size: MambaSize, inner_size: int, kernels: Kernels = TORCH):
        super().__init__()
        self.cross_ssd = CrossSSD(size, kernels)
        self.dropout = Dropout(size.dropout)
        self.norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.cross_norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.ffn = _feed_forward(size, inner_size)
        if size.use_time:
            fusion = CausalFilter if size.causal_time else FourierFusion
            self.time_fusion = fusion(size.max_length)

    def time_factors(
        self, mixer: TiSSD, tau_v: Tensor, tau_e: Tensor, real: Tensor | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
        """Compute the factors of the step sizes of both blocks from the time signals.

        Args:
            mixer: the block that encodes ``e``.
            tau_v: time signal of ``v``, ``(b, h, L)``.
            tau_e: time signal of the encoded ``e``, ``(b, h, L)``.
            real: see :meth:`TiSSD.time_factors`.

        Returns:
            factors ``(b, L, h)`` for the mixer and for the cross block, and the time signal of
            ``v`` for the next layer.
        """
        mixing, tau_v = mixer.time_factors(tau_v, real)
        crossing = self.cross_ssd.time_factors(self.time_fusion(tau_v, tau_e))
        return (mixing, crossing), tau_v

    def forward(
        self,
        v: Tensor,
        e: Tensor,
        mixer: TiSSD,
        t: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Combine two streams.

        Args:
            v: the stream that queries, ``(b, l, D)``.
            e: the stream that is read, already encoded, ``(b, l, D)``.
            mixer: the block that encoded ``e``.
            t: factors of the step sizes of both blocks, ``(b, l, h)`` each.

        Returns:
            ``(b, l, D)``
        """
        mixing, crossing = t or (None, None)
        h = self.norm(self.dropout(mixer(v, mixing)) + v)
        crossed = self.cross_ssd(h, e, crossing)
        return self.ffn(self.cross_norm(self.dropout(crossed) + h + e))

    def at_end(
        self,
        v: Tensor,
        e: Tensor,
        mixer: TiSSD,
        t: tuple[Tensor, Tensor] | None,
        lengths: Tensor,
    ) -> Tensor:
        """:meth:`forward` at the last position of each history only, ``(b, D)``.

        The queries of the cross block pass through a convolution, so the mixer is computed at the
        positions that this convolution reads.
        """
        mixing, crossing = t or (None, None)
        k = min(self.cross_ssd.size.d_conv, v.shape[1])
        last = LastPositions.of_lengths(lengths, min(k + mixer.size.d_conv - 1, v.shape[1]))
        window = last.last(k)
        h = self.norm(self.dropout(mixer.at(v, mixing, last, k)) + window.take(v))
        crossed = self.cross_ssd.at_end(h, e, crossing, window)
        residual = h[:, -1:] + window.last(1).take(e)
        return self.ffn(self.cross_norm(self.dropout(crossed) + residual)).squeeze(1)


def _feed_forward(size: MambaSize, inner_size: int) -> nn.Module:
    if not inner_size:
        return nn.Identity()
    return FeedForward(size.hidden_size, inner_size, size.dropout, size.norm_eps)
