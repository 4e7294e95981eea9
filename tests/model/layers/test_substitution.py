import torch
from torch import nn
from torch.testing import assert_close

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.products import Linear
from recbole_mm.model.layers.substitution import substitute


def test_layers_are_ours_and_parameters_stay_the_same_objects():
    module = nn.ModuleDict(
        {
            "block": nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.3)),
            "own": nn.Linear(4, 2, bias=False),
        }
    )
    before = dict(module.named_parameters())
    x = torch.randn(5, 3)
    expected = module["own"](module.eval()["block"](x))

    substitute(module)

    assert [type(layer) for layer in module["block"]] == [Linear, Dropout]
    assert type(module["own"]) is Linear
    assert module["block"][1].p == 0.3
    assert dict(module.named_parameters()).keys() == before.keys()
    assert all(p is before[name] for name, p in module.named_parameters())
    assert_close(module["own"](module.eval()["block"](x)), expected)
