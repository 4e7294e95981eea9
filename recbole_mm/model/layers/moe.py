r"""Mixture-of-experts adapter with parametric whitening."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.products import linear

NOISE_FLOOR = 0.01
"""Minimum standard deviation of the noise on a gate."""


class ParametricWhitening(nn.Module):
    r"""A learned shift and linear map, :math:`(x - b) W`, which can whiten the features of a domain.

    Args:
        n_features: ``F``.
        hidden_size: ``d``.
        dropout: probability of dropping an entry of ``x``.
        std: standard deviation of the initial weights; the shift starts at 0.
    """

    def __init__(self, n_features: int, hidden_size: int, dropout: float = 0.0, std: float = 0.02):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.shift = nn.Parameter(torch.zeros(n_features))
        self.weight = nn.Parameter(torch.empty(n_features, hidden_size))
        nn.init.normal_(self.weight, std=std)

    def forward(self, x: Tensor) -> Tensor:
        """``(n, F)`` to ``(n, d)``."""
        # shift after the product, so that its gradient does not have the size of x
        return linear(self.dropout(x), self.weight.T) - self.shift @ self.weight


class MoEAdapter(nn.Module):
    r"""Whitening experts mixed by a softmax gate, :math:`\sum_k g_k(x) \, (x - b_k) W_k`.

    In training the logits of the gate are noisy: :math:`x W_g + \epsilon (softplus(x W_\delta) +
    0.01)` with normal :math:`\epsilon`.

    Args:
        n_features: ``F``.
        hidden_size: ``d``.
        n_experts: ``k >= 1``.
        dropout: dropout on the features, drawn separately for each expert.
        std: standard deviation of the experts' initial weights; the gate starts uniform.

    Raises:
        ValueError: ``n_experts < 1``.

    Reference:
        Yupeng Hou et al. "Towards Universal Sequence Representation Learning for Recommender
        Systems." KDD 2022 (arXiv 2206.05941), section 2.1.
    """

    def __init__(
        self,
        n_features: int,
        hidden_size: int,
        n_experts: int,
        dropout: float = 0.0,
        std: float = 0.02,
    ):
        super().__init__()
        if n_experts < 1:
            raise ValueError(f"n_experts must be 1 or more, not {n_experts}.")
        self.experts = nn.ModuleList(
            ParametricWhitening(n_features, hidden_size, dropout, std) for _ in range(n_experts)
        )
        self.gate = nn.Parameter(torch.zeros(n_features, n_experts))
        self.noise = nn.Parameter(torch.zeros(n_features, n_experts))

    def forward(self, x: Tensor) -> Tensor:
        """``(n, F)`` to ``(n, d)``."""
        logits = x @ self.gate
        if self.training:
            scale = F.softplus(x @ self.noise) + NOISE_FLOOR
            logits = logits + torch.randn_like(logits) * scale
        gates = logits.softmax(-1).unbind(-1)
        pairs = zip(gates, self.experts, strict=True)
        return sum(gate.unsqueeze(-1) * expert(x) for gate, expert in pairs)
