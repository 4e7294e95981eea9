import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers import products
from recbole_mm.model.layers.products import ALIGNMENT, Linear, linear, pairwise_dots


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    """Products of any size are worth it."""
    monkeypatch.setattr(products, "SMALLEST", 0)


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 7), (0, 7)])
@pytest.mark.parametrize("n", [1, 16, 19])
@pytest.mark.parametrize("has_bias", [True, False])
def test_a_linear_layer_and_its_gradients_are_those_of_torch(shape, n, has_bias):
    x = torch.randn(*shape, requires_grad=True)
    weight = torch.randn(n, shape[-1], requires_grad=True)
    bias = torch.randn(n, requires_grad=True) if has_bias else None
    inputs = [each for each in (x, weight, bias) if each is not None]
    results = []
    for function in (linear, F.linear):
        y = function(x, weight, bias)
        results.append([y, *torch.autograd.grad(y.square().sum(), inputs)])

    assert_close(*results)


@pytest.mark.parametrize("frozen", ["x", "weight", "bias"])
def test_what_is_frozen_gets_no_gradient(frozen):
    inputs = {"x": torch.randn(4, 7), "weight": torch.randn(5, 7), "bias": torch.randn(5)}
    for name, tensor in inputs.items():
        tensor.requires_grad_(name != frozen)

    linear(**inputs).sum().backward()

    assert [name for name, tensor in inputs.items() if tensor.grad is None] == [frozen]


def test_rows_of_the_result_and_of_the_gradients_are_aligned():
    x = torch.randn(6, 20, requires_grad=True)
    weight = torch.randn(19, 20)
    found = []
    x.register_hook(lambda grad: found.append(grad.stride(0)))

    y = linear(x, weight)
    y.sum().backward()

    assert y.shape == (6, 19)
    assert y.stride(0) % ALIGNMENT == 0
    assert found[0] % ALIGNMENT == 0


@pytest.mark.parametrize(
    "x, weight",
    [
        (torch.randn(4, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)),
        (torch.randn(4, 32), torch.randn(16, 32)),
    ],
    ids=["float64", "aligned widths"],
)
def test_what_does_not_gain_is_left_to_torch(x, weight):
    assert linear(x, weight).is_contiguous()


def test_a_result_may_be_changed_in_place():
    x, weight = torch.randn(4, 7, requires_grad=True), torch.randn(5, 7)
    y = linear(x, weight)
    y[:, 0] = 0

    y.sum().backward()

    assert_close(x.grad, weight[1:].sum(dim=0).expand(4, 7))


def test_an_exported_graph_takes_any_number_of_rows():
    class Product(torch.nn.Module):
        def forward(self, x, weight):
            return linear(x, weight)

    inputs = torch.randn(4, 7), torch.randn(5, 7)
    dynamic = {0: torch.export.Dim("rows")}, {0: torch.export.Dim("items")}
    program = torch.export.export(Product(), inputs, dynamic_shapes=dynamic).module()
    more = torch.randn(9, 7), torch.randn(16, 7)

    assert_close(program(*more), more[0] @ more[1].T)


def test_under_autocast_a_product_is_bfloat16():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(4, 7), torch.randn(5, 7)).dtype == torch.bfloat16


def test_a_layer_has_the_parameters_and_the_result_of_torchs():
    ours, theirs = Linear(7, 5), torch.nn.Linear(7, 5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 7)

    assert_close(ours(x), theirs(x))


def test_pairwise_dots_and_their_gradients_are_those_of_the_product():
    a = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True).transpose(1, 2)

    assert_close(pairwise_dots(a, b), a @ b.mT)
    assert torch.autograd.gradcheck(pairwise_dots, (a, b))


def test_the_gradient_of_either_side_of_pairwise_dots_has_its_rows_in_memory():
    a, b = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 6, 4, requires_grad=True)
    found = {}
    for name, side in (("a", a), ("b", b)):
        side.register_hook(lambda grad, name=name: found.update({name: grad.is_contiguous()}))

    pairwise_dots(a, b).square().sum().backward()

    assert found == {"a": True, "b": True}


def test_pairwise_dots_train_under_autocast():
    a, b = torch.randn(2, 5, 4, requires_grad=True), torch.randn(2, 6, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        dots = pairwise_dots(a, b)
    dots.float().sum().backward()

    assert dots.dtype == torch.bfloat16
    assert_close(b.grad, a.sum(1, keepdim=True).expand(2, 6, 4), rtol=0.05, atol=0.05)
