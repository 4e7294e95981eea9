r"""Causal depthwise convolution over the length axis."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recbole_mm.tools.blocks import numbers_at_once

ELEMENTS_PER_CHUNK = 1_500_000  # keeps the products for the weight gradient in the cache


class CausalConv1d(nn.Module):
    r"""Depthwise convolution over the current and the ``kernel_size - 1`` earlier steps.

    ``(b, l, channels)`` in and out; steps before the start count as zero. Parameters are those of
    ``nn.Conv1d(channels, channels, kernel_size, groups=channels)``, including its initialization.

    Args:
        channels: ``c``.
        kernel_size: ``K``.
        convolve: implementation; by default :func:`causal_conv1d` in torch.
    """

    def __init__(self, channels: int, kernel_size: int, convolve: Callable | None = None):
        super().__init__()
        self.convolve = convolve or causal_conv1d
        template = nn.Conv1d(channels, channels, kernel_size, groups=channels)
        self.weight = nn.Parameter(template.weight.detach().squeeze(1))
        self.bias = nn.Parameter(template.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias)

    def by_parts(self, *parts: Tensor, before: list[Tensor | None]) -> list[Tensor]:
        """Convolve the channels of each part, ``(b, l, c_i)`` with ``sum(c_i) = c``.

        Parts may differ in ``l``. Parts that are used separately are computed separately: splitting
        a joint result and joining its gradient would copy both.

        Args:
            before: constant ``(c_i,)`` for each part that is added to its steps first.
        """
        sizes = [part.shape[-1] for part in parts]
        weights, biases = self.weight.split(sizes), self.bias.split(sizes)
        arguments = zip(parts, weights, biases, before, strict=True)
        return [self.convolve(*each) for each in arguments]

    def at_end(self, window: Tensor) -> Tensor:
        """The output of the last step only.

        Args:
            window: the last ``k <= kernel_size`` steps, ``(b, k, channels)``, zero before the
                start; ``k < kernel_size`` only if the sequence has no more steps.

        Returns:
            ``(b, channels)``
        """
        return (window * self.weight.T[-window.shape[1] :]).sum(dim=1) + self.bias


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor, before: Tensor | None = None) -> Tensor:
    r""":math:`y_t = bias + \sum_k weight_{:,k} \, (x + before)_{t-K+1+k}` over ``(b, l, c)``.

    Args:
        x: ``(b, l, c)``; steps before the start count as zero.
        weight: ``(c, K)``; the last column multiplies the current step.
        bias: ``(c,)``.
        before: ``(c,)``, the bias of the preceding linear layer, which is added without a pass over
            ``x``; ``None``: no bias.

    Returns:
        ``(b, l, c)``
    """
    if before is not None:
        # the share of the constant that a step sees: all of it from step K - 1 on
        seen = weight.flip(1).cumsum(1).T
        step = torch.arange(x.shape[1], device=x.device).clamp(max=len(seen) - 1)
        bias = bias + before * seen[step]
    if not torch.is_grad_enabled():
        return _convolve(x, weight, bias)
    return _CausalConv1d.apply(x, weight, bias)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    now, *earlier = weight.T.flip(0).contiguous()
    y = torch.addcmul(bias, x, now)
    for shift, factor in enumerate(earlier[: x.shape[1] - 1], start=1):
        y[:, shift:].addcmul_(x[:, :-shift], factor)
    return y


class _CausalConv1d(torch.autograd.Function):
    """A few shifted multiply-adds; torch's own backward pass is several times slower.

    ``bias`` is ``(c,)`` or ``(l, c)``.
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        ctx.bias_per_step = bias.dim() == 2
        return _convolve(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        now, *earlier = weight.T.flip(0).contiguous()
        grad_x = grad * now
        by_shift = weight.new_zeros(weight.shape[1], len(weight))
        elements = numbers_at_once(ELEMENTS_PER_CHUNK, grad.device)
        rows = max(1, elements // max(1, grad[0].numel()))
        chunks = list(zip(grad.split(rows), x.split(rows), strict=True))
        for g, v in chunks:
            by_shift[0] += (g * v).sum(dim=(0, 1))
        for shift, factor in enumerate(earlier[: x.shape[1] - 1], start=1):
            grad_x[:, :-shift].addcmul_(grad[:, shift:], factor)
            for g, v in chunks:
                by_shift[shift] += (g[:, shift:] * v[:, :-shift]).sum(dim=(0, 1))
        grad_bias = grad.sum(dim=0)
        return grad_x, by_shift.flip(0).T, grad_bias if ctx.bias_per_step else grad_bias.sum(dim=0)
