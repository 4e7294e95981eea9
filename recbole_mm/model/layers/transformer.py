r"""A post-norm Transformer encoder-decoder, computed at one decoder position or at all.

The function and the parameter names are those of :class:`torch.nn.Transformer`; only what a
position depends on is computed. Symbols: ``b`` rows, ``q`` queries, ``n`` keys,
``d`` hidden size, ``h`` heads. A mask is ``(b, n)`` bool, True where no query reads a key, or
``(b, q, n)``, with one value for each query.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.products import Linear, linear, pairwise_dots


def refuse_unequal_heads(hidden_size: int, n_heads: int) -> None:
    """Refuse a width that cannot be divided equally among the heads.

    Raises:
        ValueError: ``n_heads`` does not divide ``hidden_size``.
    """
    if hidden_size % n_heads:
        raise ValueError(
            f"hidden_size={hidden_size} cannot be divided among n_heads={n_heads}: "
            f"choose a hidden size that is a multiple of the number of heads."
        )


class Attention(nn.Module):
    r"""Multi-head attention with a mask, also for queries without any key.

    A query without any key reads the zero vector (its output is the bias of ``out_proj``), with
    finite gradients, where :class:`torch.nn.MultiheadAttention` returns NaN. Otherwise the two are
    equal, including the names of the parameters.

    Args:
        hidden_size: ``d``, a multiple of ``n_heads``.
        n_heads: ``h``.
        dropout: probability of dropping an attention weight in training.

    Note:
        A single query is computed by :func:`read_once`.
    """

    def __init__(self, hidden_size: int, n_heads: int, dropout: float = 0.0):
        super().__init__()
        refuse_unequal_heads(hidden_size, n_heads)
        self.n_heads = n_heads
        self.dropout = Dropout(dropout)
        self.in_proj_weight = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * hidden_size))
        self.out_proj = Linear(hidden_size, hidden_size)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Attend to ``keys``, which are also the values.

        Args:
            query: ``(b, q, d)``.
            keys: ``(b, n, d)``.
            mask: ``(b, n)`` or ``(b, q, n)``.

        Returns:
            ``(b, q, d)``.
        """
        if query.shape[1] == 1:
            return self._single_query(query, keys, mask.flatten(1))
        b, q, d = query.shape
        if query is keys:
            q_, k, v = linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, dim=-1)
        else:
            weight, bias = self.in_proj_weight, self.in_proj_bias
            q_ = linear(query, weight[:d], bias[:d])
            k, v = linear(keys, weight[d:], bias[d:]).chunk(2, dim=-1)
        q_, k, v = (x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in (q_, k, v))
        scores = pairwise_dots(q_, k) * (d // self.n_heads) ** -0.5
        read = self._weights(scores, mask) @ v
        return self.out_proj(read.transpose(1, 2).reshape(b, q, d))

    def _single_query(self, query: Tensor, keys: Tensor, key_padding: Tensor) -> Tensor:
        given = self.in_proj_weight, self.in_proj_bias, self.n_heads, self.dropout
        return self.out_proj(read_once(query.squeeze(1), keys, key_padding, *given)).unsqueeze(1)

    def _weights(self, scores: Tensor, mask: Tensor) -> Tensor:
        return self.dropout(attention_weights(scores, mask))


def attention_weights(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the unmasked keys ``(b, h, q, n)``; 0 without any key."""
    masked = mask[:, None] if mask.dim() == 3 else mask[:, None, None]
    scores = scores.masked_fill(masked, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1).masked_fill(masked, 0.0)


def read_once(
    query: Tensor,
    keys: Tensor,
    key_padding: Tensor,
    in_proj_weight: Tensor,
    in_proj_bias: Tensor,
    n_heads: int,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    r"""Attention of one query per row to keys, which are also the values, before ``out_proj``.

    Keys and values are not projected:
    :math:`q^\top W_k x = (W_k^\top q)^\top x` and :math:`\sum_j a_j W_v x_j = W_v \sum_j a_j
    x_j`, ``O(b d^2 + b h n d)`` instead of ``O(b n d^2)``.

    Args:
        query: ``(b, d)``.
        keys: ``(b, n, d)``.
        key_padding: ``(b, n)`` bool, True where a key is masked.
        in_proj_weight, in_proj_bias: projections of queries, keys and values, ``(3 d, d)`` and
            ``(3 d,)``.
        n_heads: ``h``.
        dropout: dropout of the attention weights; ``None``: none.

    Returns:
        ``(b, d)``
    """
    b, d = query.shape
    h = n_heads
    w_q, w_k, w_v = in_proj_weight.chunk(3)
    b_q, _, b_v = in_proj_bias.chunk(3)  # the keys' bias adds the same to all scores
    q_ = linear(query, w_q, b_q).view(b, h, d // h).transpose(0, 1)
    absorbed = torch.bmm(q_, w_k.view(h, d // h, d)).transpose(0, 1)  # (b, h, d)
    scores = pairwise_dots(absorbed, keys) * (d // h) ** -0.5
    weights = attention_weights(scores.unsqueeze(2), key_padding).squeeze(2)  # (b, h, n)
    weights = weights if dropout is None else dropout(weights)
    mixed = torch.bmm(weights, keys).transpose(0, 1)  # (h, b, d)
    read = torch.bmm(mixed, w_v.view(h, d // h, d).transpose(1, 2)).transpose(0, 1)
    read = read + weights.sum(-1, keepdim=True) * b_v.view(h, d // h)
    return read.reshape(b, d)


def causal_layer_at(layer: nn.TransformerEncoderLayer, x: Tensor, position: Tensor) -> Tensor:
    """Evaluate torch's own layer, pre-norm and causal, at one position of each row, without
    dropout: ``(b, l, d)`` and ``(b,)`` to ``(b, d)``."""
    attention = layer.self_attn
    row = torch.arange(x.shape[0], device=x.device)
    later = torch.arange(x.shape[1], device=x.device) > position.unsqueeze(1)
    keys = layer.norm1(x)
    given = attention.in_proj_weight, attention.in_proj_bias, attention.num_heads
    read = attention.out_proj(read_once(keys[row, position], keys, later, *given))
    hidden = x[row, position] + read
    return hidden + layer.linear2(layer.activation(layer.linear1(layer.norm2(hidden))))


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward block, each followed by a residual and LayerNorm."""

    def __init__(self, hidden_size, n_heads, inner_size, dropout, activation, layer_norm_eps):
        super().__init__()
        self.dropout = Dropout(dropout)
        self.activation = activation
        self.self_attn = Attention(hidden_size, n_heads, dropout)
        self.linear1 = Linear(hidden_size, inner_size)
        self.linear2 = Linear(inner_size, hidden_size)
        self.norm1 = nn.LayerNorm(hidden_size, layer_norm_eps)
        self.norm2 = nn.LayerNorm(hidden_size, layer_norm_eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` ``(b, n, d)`` and its mask -> ``(b, n, d)``."""
        x = self.norm1(x + self.dropout(self.self_attn(x, x, mask)))
        return self.norm2(x + self.dropout(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))


class DecoderLayer(EncoderLayer):
    """An encoder layer that also attends to a memory, after the self-attention."""

    def __init__(self, hidden_size, n_heads, inner_size, dropout, activation, layer_norm_eps):
        super().__init__(hidden_size, n_heads, inner_size, dropout, activation, layer_norm_eps)
        self.multihead_attn = Attention(hidden_size, n_heads, dropout)
        self.norm3 = nn.LayerNorm(hidden_size, layer_norm_eps)

    def forward(
        self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor, query: Tensor
    ) -> Tensor:
        """Outputs ``(b, q, d)`` of ``query``, which is ``x`` itself or some of its positions."""
        query = self.norm1(query + self.dropout(self.self_attn(query, x, mask)))
        read = self.multihead_attn(query, memory, memory_mask)
        query = self.norm2(query + self.dropout(read))
        return self.norm3(query + self.dropout(self._feed_forward(query)))


class Stack(nn.Module):
    """Layers and a final norm."""

    def __init__(self, layers: list[nn.Module], norm: nn.LayerNorm):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm


class EncoderDecoder(nn.Module):
    r"""Post-norm Transformer, bidirectional or not: the masks define what a position reads.

    Equal to :class:`torch.nn.Transformer` (``norm_first=False``) with the same masks of source,
    target and memory, at one position of the target or at all.

    Args:
        hidden_size: ``d``, a multiple of ``n_heads``.
        n_heads: attention heads.
        n_layers: number of layers of encoder and decoder together, half each: even and ``>= 2``.
        inner_size: width of the feed-forward blocks.
        dropout: dropout probability in every block and for the attention weights.
        activation: activation of the feed-forward blocks.
        layer_norm_eps: epsilon of every LayerNorm.

    Raises:
        ValueError: ``n_layers`` is odd or too small, or ``n_heads`` does not divide ``d``.
    """

    def __init__(
        self,
        hidden_size: int,
        n_heads: int,
        n_layers: int,
        inner_size: int,
        dropout: float = 0.0,
        activation=F.gelu,
        layer_norm_eps: float = 1e-12,
    ):
        super().__init__()
        if n_layers < 2 or n_layers % 2:
            raise ValueError(
                f"n_layers={n_layers} counts encoder and decoder layers, half each: "
                f"it must be even and at least 2."
            )
        sizes = (hidden_size, n_heads, inner_size, dropout, activation, layer_norm_eps)
        half = range(n_layers // 2)
        self.encoder = Stack(
            [EncoderLayer(*sizes) for _ in half], nn.LayerNorm(hidden_size, layer_norm_eps)
        )
        self.decoder = Stack(
            [DecoderLayer(*sizes) for _ in half], nn.LayerNorm(hidden_size, layer_norm_eps)
        )

    def encode(self, source: Tensor, mask: Tensor) -> Tensor:
        """Memory ``(b, n, d)`` of ``source`` ``(b, n, d)``.

        Padded positions are masked as keys but not as queries: their output is defined.
        """
        for layer in self.encoder.layers:
            source = layer(source, mask)
        return self.encoder.norm(source)

    def decode(self, target: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Decoder output ``(b, l, d)``.

        Args:
            target: ``(b, l, d)``.
            mask: mask of the target, ``(b, l)`` or ``(b, l, l)``.
            memory: ``(b, n, d)`` from :meth:`encode`.
            memory_mask: ``(b, n)`` or ``(b, l, n)``.
        """
        for layer in self.decoder.layers:
            target = layer(target, mask, memory, memory_mask, target)
        return self.decoder.norm(target)

    def decode_at(
        self, position: Tensor, target: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
    ) -> Tensor:
        """Decoder output ``(b, d)`` at one position ``(b,)`` of each row; see :meth:`decode`."""
        *inner, last = self.decoder.layers
        for layer in inner:
            target = layer(target, mask, memory, memory_mask, target)
        row = torch.arange(target.shape[0], device=target.device)
        own_mask, own_memory_mask = (
            every[row, position] if every.dim() == 3 else every for every in (mask, memory_mask)
        )
        query = target[row, position].unsqueeze(1)
        output = last(target, own_mask, memory, own_memory_mask, query)
        return self.decoder.norm(output).squeeze(1)
