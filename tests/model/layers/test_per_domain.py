import torch
from torch import nn
from torch.testing import assert_close

from recbole_mm.model.layers.per_domain import PerDomain


def test_every_row_goes_through_the_module_of_its_domain():
    modules = PerDomain(nn.Linear(3, 2) for _ in range(3))
    x, domain = torch.randn(5, 3), torch.tensor([-1, 2, 0, 2, 0])

    y = modules(domain, x)

    expected = [modules[number](x[row]) for row, number in enumerate([0, 2, 0, 2, 0])]
    assert_close(y, torch.stack(expected))
    y.sum().backward()
    assert modules[1].weight.grad is None or not modules[1].weight.grad.any()  # no row is its own
    assert modules[2].weight.grad.any()
