import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.moe import MoEAdapter


def adapter(**settings):
    torch.manual_seed(0)
    module = MoEAdapter(5, 3, n_experts=4, **settings).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_it_equals_its_definition():
    module, x = adapter(dropout=0.5).eval(), torch.randn(7, 5).double()

    rows = []
    for row in x:
        gates = torch.softmax(row @ module.gate, dim=0)
        rows.append(
            sum(
                g * ((row - e.shift) @ e.weight) for g, e in zip(gates, module.experts, strict=True)
            )
        )

    assert_close(module(x), torch.stack(rows))


def test_gates_are_noisy_in_training_only():
    module, x = adapter(), torch.randn(7, 5).double()

    assert not torch.equal(module(x), module(x))
    module.eval()
    assert torch.equal(module(x), module(x))


def test_the_gate_starts_uniform():
    module = MoEAdapter(5, 3, n_experts=2).eval()
    x = torch.randn(4, 5)

    assert_close(module(x), (module.experts[0](x) + module.experts[1](x)) / 2)


def test_gradients():
    module, x = adapter().eval(), torch.randn(2, 5).double().requires_grad_()

    assert torch.autograd.gradcheck(module, (x,))


def test_zero_experts_are_refused():
    with pytest.raises(ValueError, match="n_experts must be 1 or more, not 0"):
        MoEAdapter(5, 3, n_experts=0)
