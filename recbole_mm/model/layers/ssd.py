r"""State space duality: the selective recurrence of Mamba-2 as pure functions of tensors.

Symbols: ``b`` batch, ``l`` length, ``q`` positions that are computed, ``h`` heads, ``p`` head size,
``g`` groups, ``n`` state size. Head ``k`` reads group ``k // (h / g)``.
"""

import torch
from torch import Tensor

from recbole_mm.model.layers.products import pairwise_dots


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    skip: Tensor | None = None,
    chunk_size: int = 256,
) -> Tensor:
    r"""Selective state-space recurrence over a whole sequence.

    Each head starts from the zero state and follows
    :math:`S_t = e^{dt_t A} S_{t-1} + dt_t\, x_t B_t^\top,\; y_t = S_t C_t + skip_t\, x_t`.
    Up to ``chunk_size`` positions it is one quadratic (attention) form; a longer sequence is cut
    into chunks of that size, which pass on their states.

    Args:
        x: values, ``(b, l, h, p)``.
        dt: step sizes, finite and ``>= 0`` (0 keeps the state), ``(b, l, h)``.
        A: decay rates, finite and ``<= 0``, ``(h,)``.
        B: input projections, ``(b, l, g, n)``, each shared by ``h / g`` heads.
        C: output projections, ``(b, l, g, n)``.
        skip: ``(b, l, h)``; ``None``: 0.
        chunk_size: maximum length of one quadratic form.

    Returns:
        ``y``, ``(b, l, h, p)``, in ``x.dtype``, without gate and norm.

    Raises:
        ValueError: ``h`` is not a multiple of ``g``.

    Note:
        ``O(b h l min(l, chunk_size))`` memory. Decays are sums over a range of steps, computed as
        differences of two sums from the start. These are float64: in float32 the error of a
        difference would be that of the whole sums, 50 times too large where most has decayed.

    Reference:
        Tri Dao and Albert Gu. "Transformers are SSMs." ICML 2024 (arXiv 2405.21060), sections 5, 6.
    """
    _check_groups(x, B)
    outputs, state = [], None
    for start in range(0, x.shape[1], chunk_size):
        part = slice(start, start + chunk_size)
        total = _cumulative(dt[:, part], A)
        position = torch.arange(total.shape[1], device=x.device).unsqueeze(0)
        y = _read(
            x[:, part],
            dt[:, part],
            total,
            B[:, part],
            C[:, part],
            position,
            total,
            None if skip is None else skip[:, part],
        )
        if state is not None:
            y = y + _read_state(state, total, C[:, part])
        if part.stop < x.shape[1]:
            state = _carry_state(state, x[:, part], dt[:, part], total, B[:, part])
        outputs.append(y)
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def ssd_at(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    position: Tensor,
    skip: Tensor | None = None,
) -> Tensor:
    r"""The recurrence of :func:`ssd` at some positions only: ``O(q l)``.

    Args:
        x, dt, A, B, skip: see :func:`ssd`.
        C: output projections at the computed positions, ``(b, q, g, n)``.
        position: computed positions, ``(b, q)`` int64 in ``[0, l)``.

    Returns:
        ``y``, ``(b, q, h, p)``.

    Raises:
        ValueError: ``h`` is not a multiple of ``g``.
    """
    _check_groups(x, B)
    total = _cumulative(dt, A)
    index = position.unsqueeze(-1).expand(-1, -1, total.shape[-1])
    return _read(x, dt, total, B, C, position, total.gather(1, index), skip)


def _check_groups(x: Tensor, B: Tensor) -> None:
    if x.shape[2] % B.shape[2]:
        raise ValueError(
            f"{x.shape[2]} heads cannot be divided among {B.shape[2]} groups: "
            f"n_groups must be a divisor of the number of heads."
        )


def _cumulative(dt: Tensor, A: Tensor) -> Tensor:
    """Log-decay from the start to each position, ``(b, l, h)`` float64."""
    return (dt.double() * A.double()).cumsum(dim=1)


def _read(x, dt, total, B, C, position, total_at, skip) -> Tensor:
    """``y (b, q, h, p)`` from the zero state, as causal attention over all positions.

    Step sizes and skip are applied to the small attention matrix, so that ``x`` is read once.

    Args:
        total: log-decay from the start to each position, ``(b, l, h)`` float64.
        position: computed positions, ``(b or 1, q)``.
        total_at: ``total`` at these positions, ``(b, q, h)``.
    """
    b, l, h = x.shape[:3]
    q, g = C.shape[1:3]
    seen = torch.arange(l, device=x.device)
    later = seen > position.unsqueeze(-1)  # (b or 1, q, l)
    decay = total_at.mT.contiguous().unsqueeze(-1) - total.mT.contiguous().unsqueeze(-2)
    decay = decay.to(torch.promote_types(x.dtype, torch.float32))
    decay = decay.masked_fill_(later.unsqueeze(1), -torch.inf).exp_()  # (b, h, q, l)
    factor = (decay * dt.transpose(1, 2).unsqueeze(-2)).to(x.dtype)
    similarity = pairwise_dots(C.transpose(1, 2), B.transpose(1, 2))  # (b, g, q, l)
    weight = (similarity.unsqueeze(2) * factor.view(b, g, h // g, q, l)).view(b, h, q, l)
    if skip is not None:
        own = (seen == position.unsqueeze(-1)).to(x.dtype)
        weight = torch.addcmul(weight, own.unsqueeze(1), skip.transpose(1, 2).unsqueeze(-2))
    return (weight @ x.transpose(1, 2)).transpose(1, 2)


def _carry_state(state: Tensor | None, x: Tensor, dt: Tensor, total: Tensor, B: Tensor) -> Tensor:
    """State ``(b, h, p, n)`` after a chunk with the cumulative log-decay ``total``."""
    remaining = ((total[:, -1:] - total).exp() * dt).to(x.dtype)
    B = B.repeat_interleave(x.shape[2] // B.shape[2], dim=2)
    new = torch.einsum("blh,blhp,blhn->bhpn", remaining, x, B)
    return new if state is None else new + total[:, -1].exp()[..., None, None].to(x.dtype) * state


def _read_state(state: Tensor, total: Tensor, C: Tensor) -> Tensor:
    """The part of a chunk's outputs that comes from the state before it, ``(b, l, h, p)``."""
    C = C.repeat_interleave(state.shape[1] // C.shape[2], dim=2)
    return torch.einsum("blh,bhpn,blhn->blhp", total.exp().to(state.dtype), state, C)
