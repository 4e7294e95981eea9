r"""Causal depthwise convolution over the length axis."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ELEMENTS_PER_CHUNK = 500_000  # products for the weights stay in a core's cache


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
        return (window * self.weight.T).sum(dim=1) + self.bias


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
    """torch's own backward of a depthwise convolution takes several times its forward."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return _depthwise(x, weight, bias, before=weight.shape[1] - 1)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        kernel_size = weight.shape[1]
        grad_x = _depthwise(grad, weight.flip(1), None, after=kernel_size - 1)
        grad_weight, grad_bias = torch.zeros_like(weight), weight.new_zeros(len(weight))
        rows = max(1, ELEMENTS_PER_CHUNK // max(1, grad[0].numel()))
        for g, v in zip(grad.split(rows), x.split(rows)):
            grad_bias += g.sum(dim=(0, 1))
            for shift in range(min(kernel_size, x.shape[1])):
                product = g[:, shift:] * v[:, : v.shape[1] - shift]
                grad_weight[:, -1 - shift] += product.sum(dim=(0, 1))
        return grad_x, grad_weight, grad_bias


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None, before=0, after=0) -> Tensor:
    """Correlation along ``l`` of ``(b, l, c)``, which to ``conv2d`` is a channels-last picture."""
    picture = F.pad(x, (0, 0, before, after)).transpose(1, 2).unsqueeze(2)
    y = F.conv2d(picture, weight[:, None, None], bias, groups=len(weight))
    return y.squeeze(2).transpose(1, 2)
