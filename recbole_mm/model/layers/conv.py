r"""Causal depthwise convolution over the length axis."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class CausalConv1d(nn.Module):
    r"""Depthwise convolution that looks at the current and the ``kernel_size - 1`` earlier steps.

    ``(b, l, channels)`` in and out; steps before the start count as zero. Parameters are those of
    ``nn.Conv1d(channels, channels, kernel_size, groups=channels)``, its initialisation included.

    Args:
        channels: ``c``.
        kernel_size: ``K``.
        convolve: what computes it, by default the torch :func:`causal_conv1d`.
    """

    def __init__(self, channels: int, kernel_size: int, convolve: Callable | None = None):
        super().__init__()
        self.convolve = convolve or causal_conv1d
        template = nn.Conv1d(channels, channels, kernel_size, groups=channels)
        self.weight = nn.Parameter(template.weight.detach().squeeze(1))
        self.bias = nn.Parameter(template.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        return self.convolve(x, self.weight, self.bias)

    def at_end(self, window: Tensor) -> Tensor:
        """The output of the last step alone.

        Args:
            window: the last ``kernel_size`` steps, ``(b, kernel_size, channels)``, zero before
                the start.

        Returns:
            ``(b, channels)``
        """
        return torch.einsum("bkc,ck->bc", window, self.weight) + self.bias


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """:math:`y_t = bias + \\sum_k weight_{:,k} \\, x_{t-K+1+k}` over ``(b, l, c)``.

    Args:
        x: ``(b, l, c)``.
        weight: ``(c, K)``; the last column multiplies the current step.
        bias: ``(c,)``.

    Returns:
        ``(b, l, c)``
    """
    return _CausalConv1d.apply(x, weight, bias)


class _CausalConv1d(torch.autograd.Function):
    """A few shifted multiply-adds in place: each pass reads and writes the signal once."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        y = torch.addcmul(bias, x, weight[:, -1])
        for shift in _shifts(x, weight):
            y[:, shift:].addcmul_(x[:, :-shift], weight[:, -1 - shift])
        return y

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad_x = grad * weight[:, -1]
        grad_weight = torch.zeros_like(weight)
        grad_weight[:, -1] = (grad * x).sum(dim=(0, 1))
        for shift in _shifts(x, weight):
            grad_x[:, :-shift].addcmul_(grad[:, shift:], weight[:, -1 - shift])
            grad_weight[:, -1 - shift] = (grad[:, shift:] * x[:, :-shift]).sum(dim=(0, 1))
        return grad_x, grad_weight, grad.sum(dim=(0, 1))


def _shifts(x: Tensor, weight: Tensor) -> range:
    return range(1, min(weight.shape[1], x.shape[1]))
