import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.fourier import ComplexLinear, FourierFusion


def test_complex_linear_without_biases_is_complex_multiplication():
    torch.manual_seed(0)
    layer = ComplexLinear(3).double()
    torch.nn.init.zeros_(layer.real.bias)
    torch.nn.init.zeros_(layer.imag.bias)
    z = torch.randn(2, 3, dtype=torch.complex128)
    assert_close(layer(z), z @ torch.complex(layer.real.weight, layer.imag.weight).T)


@pytest.mark.parametrize("length", [1, 2, 9, 20])
def test_it_starts_as_the_mean_of_the_signals(length):
    torch.manual_seed(0)
    fusion = FourierFusion(length)
    fusion.start_as_mean()
    a, b = torch.randn(2, 4, length)
    assert_close(fusion(a, b), (a + b) / 2)
