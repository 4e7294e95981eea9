"""Replace torch's linear layers and dropouts by ours inside a third-party module."""

from torch import nn

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.products import Linear


def substitute(module: nn.Module) -> None:
    """Replace every ``nn.Linear`` and ``nn.Dropout`` inside ``module``; parameters and their names
    do not change."""
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
