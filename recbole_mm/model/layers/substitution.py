"""Our linear layers and dropouts in the place of torch's, below a module that others wrote."""

from torch import nn

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.products import Linear


def substitute(module: nn.Module) -> None:
    """Replace every ``nn.Linear`` and ``nn.Dropout`` below ``module``; parameters and their names
    stay."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
            elif type(child) is nn.Linear:
                setattr(parent, name, _linear(child))


def _linear(layer: nn.Linear) -> Linear:
    copy = Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
    copy.weight, copy.bias = layer.weight, layer.bias
    return copy
