import torch

from recbole_mm.model.layers.dropout import Dropout


def test_share_scale_and_independence():
    torch.manual_seed(0)
    dropout = Dropout(0.4)
    y = dropout(torch.ones(1000, 1001))  # an odd number of elements
    assert abs((y == 0).float().mean().item() - 0.4) < 0.002
    assert abs(y.mean().item() - 1) < 0.004
    columns = (y == 0).float()
    together = (columns[:, 0:-1:4] * columns[:, 1::4]).mean().item()
    assert abs(together - 0.16) < 0.003  # lanes of one random word do not depend on each other


def test_same_seed_same_mask_and_gradient_is_the_mask():
    dropout, x = Dropout(0.3), torch.ones(50, requires_grad=True)
    torch.manual_seed(1)
    y = dropout(x)
    y.sum().backward()
    assert torch.equal(x.grad, y)
    torch.manual_seed(1)
    assert torch.equal(dropout(x), y)


def test_edges():
    x = torch.randn(10)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(10))
