r"""State space duality: the selective recurrence of Mamba-2 as pure functions of tensors.

Symbols: ``b`` batch, ``l`` length, ``h`` heads, ``p`` head size, ``g`` groups, ``n`` state size.
Head ``k`` reads group ``k // (h / g)``.
"""

import torch
from torch import Tensor


def ssd(x: Tensor, dA: Tensor, B: Tensor, C: Tensor, chunk_size: int = 256) -> Tensor:
    r"""Selective state-space recurrence over a whole sequence.

    Each head starts from the zero state and follows
    :math:`S_t = e^{dA_t} S_{t-1} + x_t B_t^\top,\; y_t = S_t C_t`.
    Up to ``chunk_size`` positions it is one quadratic (attention) form; a longer sequence is cut
    into chunks of that size which hand on their states.

    Args:
        x: values already multiplied by the step size dt, ``(b, l, h, p)``.
        dA: log-decay ``dt * A``, finite and ``<= 0`` (0 keeps the state), ``(b, l, h)``.
        B: input projections, ``(b, l, g, n)``, each shared by ``h / g`` heads.
        C: output projections, ``(b, l, g, n)``.
        chunk_size: the longest quadratic form.

    Returns:
        ``y``, ``(b, l, h, p)``, in ``x.dtype``. The skip, the gate and the norm are the caller's.

    Raises:
        ValueError: if ``h`` is not a multiple of ``g``.

    Note:
        ``O(b h l min(l, chunk_size))`` memory. Decays are summed in float32 or better: in bfloat16
        the error grows to the size of the signal at a few hundred positions.

    Reference:
        Tri Dao and Albert Gu. "Transformers are SSMs." ICML 2024 (arXiv 2405.21060), sections 5, 6.
    """
    _check_groups(x, B)
    if x.shape[1] <= chunk_size:
        return _quadratic(x, dA, B, C)[0]
    outputs, state = [], None
    for start in range(0, x.shape[1], chunk_size):
        part = slice(start, start + chunk_size)
        y, total = _quadratic(x[:, part], dA[:, part], B[:, part], C[:, part])
        if state is not None:
            y = y + _read_state(state, dA[:, part], C[:, part]).to(y.dtype)
        state = _carry_state(state, x[:, part], total, B[:, part])
        outputs.append(y)
    return torch.cat(outputs, dim=1)


def ssd_at_end(x: Tensor, dA: Tensor, B: Tensor, C: Tensor) -> Tensor:
    r"""The recurrence of :func:`ssd`, read at one position only: ``O(l)`` in time and memory.

    Args:
        x: values times dt, ``(b, l, h, p)``; zero after the position that is read.
        dA: log-decay, ``(b, l, h)``; zero after the position that is read.
        B: input projections, ``(b, l, g, n)``.
        C: output projection of the position that is read, ``(b, g, n)``.

    Returns:
        ``y``, ``(b, h, p)``: :func:`ssd` at the last position where ``x`` is not zero.

    Raises:
        ValueError: if ``h`` is not a multiple of ``g``.
    """
    _check_groups(x, B)
    heads_per_group = x.shape[2] // B.shape[2]
    total = _cumulated(dA)
    decay = (total[:, -1:] - total).exp()
    similarity = (B * C.unsqueeze(1)).sum(dim=-1)
    weight = similarity.repeat_interleave(heads_per_group, dim=-1) * decay.to(x.dtype)
    return (weight.unsqueeze(-1) * x).sum(dim=1)


def _check_groups(x: Tensor, B: Tensor) -> None:
    if x.shape[2] % B.shape[2]:
        raise ValueError(
            f"{x.shape[2]} heads cannot be divided among {B.shape[2]} groups: "
            f"n_groups must be a divisor of the number of heads."
        )


def _cumulated(dA: Tensor) -> Tensor:
    return dA.to(torch.promote_types(dA.dtype, torch.float32)).cumsum(dim=1)


def _quadratic(x: Tensor, dA: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """``y`` of one chunk from the zero state, and the cumulated log-decay ``(b, l, h)``."""
    b, l, h = x.shape[:3]
    g = B.shape[2]
    total = _cumulated(dA)
    by_head = total.transpose(1, 2)  # (b, h, l)
    later = torch.ones(l, l, dtype=torch.bool, device=x.device).triu(1)
    decay = (by_head.unsqueeze(-1) - by_head.unsqueeze(-2)).masked_fill(later, -torch.inf).exp()
    similarity = C.transpose(1, 2) @ B.permute(0, 2, 3, 1)  # (b, g, l, l)
    weight = (similarity.unsqueeze(2) * decay.view(b, g, h // g, l, l).to(x.dtype)).view(b, h, l, l)
    return (weight @ x.transpose(1, 2)).transpose(1, 2), total


def _carry_state(state: Tensor | None, x: Tensor, total: Tensor, B: Tensor) -> Tensor:
    """State ``(b, h, p, n)`` after a chunk with cumulated log-decay ``total``."""
    remaining = (total[:, -1:] - total).exp()
    B = B.repeat_interleave(x.shape[2] // B.shape[2], dim=2)
    new = torch.einsum("blh,blhp,blhn->bhpn", remaining.to(x.dtype), x, B)
    return new if state is None else new + total[:, -1].exp()[..., None, None].to(x.dtype) * state


def _read_state(state: Tensor, dA: Tensor, C: Tensor) -> Tensor:
    """What the state before a chunk contributes to its outputs, ``(b, l, h, p)``."""
    C = C.repeat_interleave(state.shape[1] // C.shape[2], dim=2)
    decay = _cumulated(dA).exp()
    return torch.einsum("blh,bhpn,blhn->blhp", decay.to(state.dtype), state, C)
