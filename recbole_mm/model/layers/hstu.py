r"""A hierarchical sequential transduction unit: gated attention without a softmax."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.transformer import refuse_unequal_heads


class HSTUBlock(nn.Module):
    r"""A causal block whose attention weights are not normalized, so that they keep the intensity
    of an interest, and whose output is gated.

    .. math::
        U, V, Q, K = \mathrm{silu}(W\,\mathrm{norm}(X)), \quad
        Y = X + W_o (U \odot \mathrm{norm}(\mathrm{silu}(Q K^\top + b)\, V / L))

    in every head; ``b`` is a learned number for each distance between two positions. Neither norm
    has weights.

    Args:
        hidden_size: a multiple of ``n_heads``.
        n_heads: attention heads.
        length: ``L``, the largest number of positions.
        dropout: dropout probability on the gated output.
        eps: constant added to the variance in the norms.
        std: standard deviation of the initial ``W`` and ``b``.

    Raises:
        ValueError: ``n_heads`` does not divide ``hidden_size``.

    Reference:
        Jiaqi Zhai et al. "Actions speak louder than words: trillion-parameter sequential transducers
        for generative recommendations." ICML 2024 (arXiv 2402.17152).
    """

    def __init__(
        self, hidden_size: int, n_heads: int, length: int, dropout: float, eps: float, std: float
    ):
        super().__init__()
        refuse_unequal_heads(hidden_size, n_heads)
        self.n_heads, self.eps = n_heads, eps
        self.in_proj = nn.Linear(hidden_size, 4 * hidden_size, bias=False)
        self.distance_bias = nn.Parameter(torch.empty(length))
        self.out_proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.in_proj.weight, std=std)
        nn.init.normal_(self.distance_bias, std=std)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(b, l, hidden_size)`` with ``l <= L``; no position reads a later one."""
        u, *vqk = F.silu(self.in_proj(self._norm(x))).chunk(4, dim=-1)
        v, q, k = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in vqk)
        weights = F.silu(q @ k.transpose(-1, -2) + self._bias(x.shape[1])).tril()
        read = (weights @ v / len(self.distance_bias)).transpose(1, 2).flatten(-2)
        return x + self.out_proj(self.dropout(u * self._norm(read)))

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps)

    def _bias(self, length: int) -> Tensor:
        """The bias by query and key, ``(length, length)``; later keys are masked elsewhere."""
        position = torch.arange(length, device=self.distance_bias.device)
        return self.distance_bias[(position.unsqueeze(1) - position).clamp(min=0)]
