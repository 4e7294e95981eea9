import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.fourier import CausalFilter, ComplexLinear, FourierFusion


def test_complex_linear_without_biases_is_complex_multiplication():
    torch.manual_seed(0)
    layer = ComplexLinear(3).double()
    torch.nn.init.zeros_(layer.real.bias)
    torch.nn.init.zeros_(layer.imag.bias)
    z = torch.randn(2, 3, dtype=torch.complex128)
    assert_close(layer(z), z @ torch.complex(layer.real.weight, layer.imag.weight).T)


@pytest.mark.parametrize("length", [1, 2, 9, 20])
@pytest.mark.parametrize("kind", [FourierFusion, CausalFilter])
def test_it_starts_as_the_mean_of_the_signals(length, kind):
    torch.manual_seed(0)
    fusion = kind(length)
    fusion.start_as_mean()
    a, b = torch.randn(2, 4, length)
    assert_close(fusion(a, b), (a + b) / 2)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_a_causal_filter_is_the_convolution_with_its_kernels(length):
    torch.manual_seed(0)
    layer = CausalFilter(length).double()
    a, b = torch.randn(2, 4, length, dtype=torch.float64)
    expected = torch.zeros_like(a)
    for t in range(length):
        for s in range(t + 1):
            expected[:, t] += layer.kernels[0, s] * a[:, t - s] + layer.kernels[1, s] * b[:, t - s]

    assert_close(layer(a, b), expected)
