r"""Time-aware Mamba-2 blocks and the layers around them.

Symbols: ``b`` batch, ``l`` positions that are computed, ``L`` the model's maximum length,
``D`` hidden size, ``E = expand * D`` inner size, ``h`` heads of size ``p = E / h``, ``g`` groups,
``n`` state size. Histories are right-padded; every block is causal over the positions of its
items, so what stands behind a history never reaches its last position.

Reference:
    "MMM4Rec: A Transfer-Efficient Framework for Multi-modal Sequential Recommendation."
    arXiv 2506.02916.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.backend import TORCH, Kernels
from recbole_mm.model.layers.conv import CausalConv1d
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.fourier import FourierFusion
from recbole_mm.model.layers.ssd import ssd_at_end
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
        d_conv: steps that a convolution sees.
        max_length: ``L``, the size of the time layers.
        use_time: whether time signals scale the step sizes.
        dropout: on the outputs of blocks and feed-forward layers.
        time_dropout: on time signals.
        norm_eps: of every norm but those of time signals.
        time_norm_eps: of the norms of time signals.
        skip: ``dt_x`` adds ``D * dt * x`` to a block's output (the released MMM4Rec), ``x`` adds
            ``D * x`` (mamba_ssm's own).
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
                f"choose a head_dim that divides {self.inner_size}."
            )
        if self.n_heads % self.n_groups:
            raise ValueError(
                f"n_groups {self.n_groups} must divide the number of heads, {self.n_heads} "
                f"(= hidden_size {self.hidden_size} x expand {self.expand} / "
                f"head_dim {self.head_dim})."
            )
        if self.skip not in SKIPS:
            raise ValueError(f"ssd_skip must be one of {SKIPS}, not {self.skip!r}.")
        if self.cross_activation not in ACTIVATIONS:
            raise ValueError(
                f"cross_activation must be one of {tuple(ACTIVATIONS)}, "
                f"not {self.cross_activation!r}."
            )

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


class RMSNorm(nn.Module):
    """Gated root-mean-square norm: ``norm(y * silu(z)) * weight`` over the last axis."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        return F.rms_norm(y * F.silu(z), self.weight.shape, self.weight, self.eps)


class SelectiveStateSpace(nn.Module):
    """The parameters of the recurrence itself and how a block calls it.

    Args:
        size: sizes and variants.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
    """

    def __init__(self, size: MambaSize, kernels: Kernels = TORCH):
        super().__init__()
        self.size, self.scan = size, kernels.scan
        dt = torch.rand(size.n_heads) * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN)
        dt = dt.exp()
        self.dt_bias = nn.Parameter(dt + torch.log(-torch.expm1(-dt)))  # softplus gives dt again
        self.A_log = nn.Parameter(torch.empty(size.n_heads).uniform_(A_MIN, A_MAX).log())
        self.D = nn.Parameter(torch.ones(size.n_heads))

    def forward(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor) -> Tensor:
        """All positions: ``(b, l, E), (b, l, h), (b, l, g n), (b, l, g n) -> (b, l, E)``."""
        x, dt, scaled = self._scale(x, dt)
        y = self.scan(scaled, dt * -self.A_log.exp(), self._by_group(B), self._by_group(C))
        return (y + self._skip(x, scaled)).flatten(-2)

    def at_end(self, x: Tensor, dt: Tensor, B: Tensor, C: Tensor, lengths: Tensor) -> Tensor:
        """The last position of each history alone.

        Args:
            x: ``(b, l, E)``.
            dt: ``(b, l, h)``.
            B: ``(b, l, g n)``.
            C: of the last position, ``(b, g n)``.
            lengths: ``(b,)``.

        Returns:
            ``(b, E)``
        """
        real = torch.arange(x.shape[1], device=x.device) < lengths.unsqueeze(1)
        x, dt, scaled = self._scale(x, dt)
        dt = dt * real.unsqueeze(-1)
        scaled = scaled * real[..., None, None]
        y = ssd_at_end(scaled, dt * -self.A_log.exp(), self._by_group(B), self._by_group(C))
        row = torch.arange(len(x), device=x.device)
        last = row, lengths - 1
        return (y + self._skip(x[last], scaled[last])).flatten(-2)

    def _scale(self, x: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = x.unflatten(-1, (self.size.n_heads, self.size.head_dim))
        dt = F.softplus(dt + self.dt_bias)
        return x, dt, x * dt.unsqueeze(-1)

    def _by_group(self, projection: Tensor) -> Tensor:
        return projection.unflatten(-1, (self.size.n_groups, self.size.d_state))

    def _skip(self, x: Tensor, scaled: Tensor) -> Tensor:
        return self.D.unsqueeze(-1) * (scaled if self.size.skip == "dt_x" else x)


class TiSSD(nn.Module):
    """Time-aware state space block.

    Without time (``size.use_time`` false) its step sizes depend on the items alone.

    Args:
        size: sizes and variants.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
        hands_on_time: whether a later layer needs the time signal.
    """

    def __init__(self, size: MambaSize, kernels: Kernels = TORCH, hands_on_time: bool = True):
        super().__init__()
        self.size = size
        self.hands_on_time = size.use_time and hands_on_time
        E, S = size.inner_size, size.state_size
        self.in_proj = nn.Linear(size.hidden_size, 2 * E + 2 * S + size.n_heads)
        self.conv = CausalConv1d(E + 2 * S, size.d_conv, kernels.conv)
        self.state_space = SelectiveStateSpace(size, kernels)
        self.norm = RMSNorm(E, size.norm_eps)
        self.out_proj = nn.Linear(E, size.hidden_size)
        if size.use_time:
            self.time_scale = TimeScale(
                size.n_heads, size.max_length, size.d_conv, size.time_dropout
            )
        if self.hands_on_time:
            self.time_gate = TimeGate(
                size.max_length,
                size.time_dropout,
                size.time_norm_eps,
                size.time_gate_per_position,
            )

    def forward(
        self, u: Tensor, tau: Tensor | None = None, real: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Mix the positions of ``u``.

        Args:
            u: ``(b, l, D)``.
            tau: time signal, ``(b, h, L)``, ``l <= L``; ``None`` without time.
            real: ``(b, 1, L)`` bool, see :class:`~recbole_mm.model.layers.time.LengthNorm`.

        Returns:
            the block's output ``(b, l, D)`` and the time signal for the next layer, if any.
        """
        size = self.size
        E, S = size.inner_size, size.state_size
        z, xBC, dt = self.in_proj(u).split([E, E + 2 * S, size.n_heads], dim=-1)
        x, B, C = F.silu(self.conv(xBC)).split([E, S, S], dim=-1)
        if tau is not None:
            t = self.time_scale(tau)
            dt = dt * t[..., : u.shape[1]].transpose(1, 2)
            tau = self.time_gate(tau, t, real) if self.hands_on_time else None
        y = self.state_space(x, dt, B, C)
        return self.out_proj(self.norm(y, z)), tau


class CrossSSD(nn.Module):
    """State space block in which one stream asks (``q``) and another is read (``u``)."""

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
        self.norm = RMSNorm(E, size.norm_eps)
        self.out_proj = nn.Linear(E, size.hidden_size)
        if size.use_time:
            self.time_scale = TimeScale(
                size.n_heads, size.max_length, size.d_conv, size.time_dropout, self.activation
            )

    def forward(self, q: Tensor, u: Tensor, tau: Tensor | None = None) -> Tensor:
        """``(b, l, D)`` twice and ``(b, h, L)`` to ``(b, l, D)``."""
        x, B, dt = self._read(u, tau)
        C = self.activation(self.q_conv(self.q_in_proj(q)))
        y = self.state_space(x, dt, B, C)
        return self.out_proj(self.norm(y, self.z_in_proj(q + u)))

    def at_end(self, q: Tensor, u: Tensor, tau: Tensor | None, lengths: Tensor) -> Tensor:
        """:meth:`forward` at the last position of each history alone, ``(b, D)``.

        Args:
            q: ``(b, l, D)``.
            u: ``(b, l, D)``.
            tau: ``(b, h, L)`` or ``None``.
            lengths: ``(b,)``.
        """
        x, B, dt = self._read(u, tau)
        row = torch.arange(len(u), device=u.device)
        window = lengths.unsqueeze(1) + torch.arange(-self.size.d_conv, 0, device=u.device)
        steps = self.q_in_proj(q[row.unsqueeze(1), window.clamp(min=0)])
        C = self.activation(self.q_conv.at_end(steps * (window >= 0).unsqueeze(-1)))
        y = self.state_space.at_end(x, dt, B, C, lengths)
        last = row, lengths - 1
        return self.out_proj(self.norm(y, self.z_in_proj(q[last] + u[last])))

    def _read(self, u: Tensor, tau: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        E, S = self.size.inner_size, self.size.state_size
        xB, dt = self.u_in_proj(u).split([E + S, self.size.n_heads], dim=-1)
        x, B = self.activation(self.u_conv(xB)).split([E, S], dim=-1)
        if tau is not None:
            dt = dt * self.time_scale(tau)[..., : u.shape[1]].transpose(1, 2)
        return x, B, dt


class FeedForward(nn.Module):
    """Position-wise feed-forward layer with a residual and a norm behind it."""

    def __init__(self, hidden_size: int, inner_size: int, dropout: float, eps: float = 1e-12):
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
        inner_size: of the feed-forward layer; 0 leaves it out.
        kernels: see :class:`~recbole_mm.model.layers.backend.Kernels`.
        hands_on_time: see :class:`TiSSD`.
    """

    def __init__(
        self, size: MambaSize, inner_size: int, kernels: Kernels = TORCH, hands_on_time: bool = True
    ):
        super().__init__()
        self.ssd = TiSSD(size, kernels, hands_on_time)
        self.dropout = Dropout(size.dropout)
        self.norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.ffn = _feed_forward(size, inner_size)

    def forward(
        self, u: Tensor, tau: Tensor | None = None, real: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """See :meth:`TiSSD.forward`."""
        mixed, tau = self.ssd(u, tau, real)
        return self.ffn(self.norm(self.dropout(mixed) + u)), tau


class CrossLayer(nn.Module):
    """One stream (``v``) is mixed, then asks a second one (``e``) that is already encoded.

    The mixing block is not its own: it is the one of the layer that encoded ``e``.
    """

    def __init__(self, size: MambaSize, inner_size: int, kernels: Kernels = TORCH):
        super().__init__()
        self.cross_ssd = CrossSSD(size, kernels)
        self.dropout = Dropout(size.dropout)
        self.norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.cross_norm = nn.LayerNorm(size.hidden_size, size.norm_eps)
        self.ffn = _feed_forward(size, inner_size)
        if size.use_time:
            self.time_fusion = FourierFusion(size.max_length)

    def forward(
        self,
        v: Tensor,
        e: Tensor,
        mixer: TiSSD,
        tau_v: Tensor | None = None,
        tau_e: Tensor | None = None,
        real: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Combine two streams.

        Args:
            v: the stream that asks, ``(b, l, D)``.
            e: the stream that is read, already encoded, ``(b, l, D)``.
            mixer: the block that encoded ``e``.
            tau_v: time signal of ``v``, ``(b, h, L)``, or ``None``.
            tau_e: time signal that came out with ``e``, or ``None``.
            real: see :meth:`TiSSD.forward`.
            lengths: ``(b,)``; if given, only the last position of each history is computed.

        Returns:
            the combined stream ``(b, l, D)`` (``(b, D)`` with ``lengths``) and the time signal of
            ``v`` for the next layer.
        """
        mixed, tau_v = mixer(v, tau_v, real)
        h = self.norm(self.dropout(mixed) + v)
        tau = None if tau_v is None else self.time_fusion(tau_v, tau_e)
        if lengths is None:
            crossed, residual = self.cross_ssd(h, e, tau), h + e
        else:
            crossed = self.cross_ssd.at_end(h, e, tau, lengths)
            last = torch.arange(len(v), device=v.device), lengths - 1
            residual = h[last] + e[last]
        return self.ffn(self.cross_norm(self.dropout(crossed) + residual)), tau_v


def _feed_forward(size: MambaSize, inner_size: int) -> nn.Module:
    if not inner_size:
        return nn.Identity()
    return FeedForward(size.hidden_size, inner_size, size.dropout)
