r"""Filters of time signals in the frequency domain."""

import torch
from torch import Tensor, nn


class ComplexLinear(nn.Module):
    r"""Complex linear map over the last axis, stored as two real maps with their own biases.

    :math:`z \mapsto (R(\Re z) - I(\Im z)) + i\,(I(\Re z) + R(\Im z))`
    """

    def __init__(self, size: int):
        super().__init__()
        self.real = nn.Linear(size, size)
        self.imag = nn.Linear(size, size)

    def forward(self, z: Tensor) -> Tensor:
        return torch.complex(
            self.real(z.real) - self.imag(z.imag), self.imag(z.real) + self.real(z.imag)
        )


class FourierFusion(nn.Module):
    r"""Filter two real signals in the frequency domain and merge them into one.

    :math:`\mathrm{irfft}(W_c(W_a(X_a) X_a + W_b(X_b) X_b))`, ``X = rfft(x)`` over the last axis,
    orthonormal.

    Args:
        length: size ``L`` of the last axis; the filters have ``L // 2 + 1`` frequencies.
    """

    def __init__(self, length: int):
        super().__init__()
        self.length = length
        frequencies = length // 2 + 1
        self.first_filter = ComplexLinear(frequencies)
        self.second_filter = ComplexLinear(frequencies)
        self.merge_filter = ComplexLinear(frequencies)

    def start_as_mean(self) -> None:
        """Initialize so that the output is the mean of the two signals."""
        for linear in (self.first_filter, self.second_filter, self.merge_filter):
            for part in (linear.real, linear.imag):
                nn.init.zeros_(part.weight)
                nn.init.zeros_(part.bias)
        for linear in (self.first_filter, self.second_filter):  # a constant filter of 1 + 0i
            nn.init.constant_(linear.real.bias, 0.5)
            nn.init.constant_(linear.imag.bias, -0.5)
        nn.init.eye_(self.merge_filter.real.weight)
        self.merge_filter.real.weight.data.mul_(0.5)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Merge two signals ``(..., L)`` into one, in float32 or better even under autocast."""
        wide = torch.promote_types(first.dtype, torch.float32)
        with torch.autocast(first.device.type, enabled=False):
            a = torch.fft.rfft(first.to(wide), norm="ortho")
            b = torch.fft.rfft(second.to(wide), norm="ortho")
            merged = self.merge_filter(self.first_filter(a) * a + self.second_filter(b) * b)
            return torch.fft.irfft(merged, n=self.length, norm="ortho")


class CausalFilter(nn.Module):
    r"""Filter two real signals by learned kernels and add them; no output reads a later position.

    :math:`k_a * x_a + k_b * x_b` over the last axis. The kernels are as long as the signals, so the
    convolutions are products of Fourier transforms over twice the length: the causal counterpart of
    :class:`FourierFusion`, whose filters depend on the whole signal.

    Args:
        length: size ``L`` of the last axis, and of the kernels.
    """

    def __init__(self, length: int):
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(2, length) * length**-0.5)

    def start_as_mean(self) -> None:
        """Initialize so that the output is the mean of the two signals."""
        nn.init.zeros_(self.kernels)
        nn.init.constant_(self.kernels[:, 0], 0.5)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Merge two signals ``(..., L)`` into one, in float32 or better even under autocast."""
        wide = torch.promote_types(first.dtype, torch.float32)
        length = self.kernels.shape[-1]
        with torch.autocast(first.device.type, enabled=False):
            # separately, since ONNX cannot select rows of a complex tensor
            k_a, k_b = (torch.fft.rfft(k, n=2 * length) for k in self.kernels.to(wide))
            a = torch.fft.rfft(first.to(wide), n=2 * length)
            b = torch.fft.rfft(second.to(wide), n=2 * length)
            return torch.fft.irfft(k_a * a + k_b * b, n=2 * length)[..., :length]
