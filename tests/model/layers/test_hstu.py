import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.hstu import HSTUBlock


def block(length=6, n_heads=2):
    torch.manual_seed(0)
    return HSTUBlock(8, n_heads, length, dropout=0.0, eps=1e-6, std=0.5).double()


def test_a_block_is_its_definition_position_by_position():
    layer, x = block(), torch.randn(2, 5, 8, dtype=torch.float64)
    u, v, q, k = F.silu(F.layer_norm(x, (8,), eps=1e-6) @ layer.in_proj.weight.T).split(8, dim=-1)
    read = torch.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        for t in range(5):
            for s in range(t + 1):
                score = (q[:, t, head] * k[:, s, head]).sum(-1) + layer.distance_bias[t - s]
                read[:, t, head] += F.silu(score).unsqueeze(-1) * v[:, s, head] / 6
    gated = u * F.layer_norm(read, (8,), eps=1e-6)

    assert_close(layer(x), x + layer.out_proj(gated))


def test_a_block_does_not_read_later_positions():
    layer, x = block(), torch.randn(2, 5, 8, dtype=torch.float64)
    before = layer(x)
    x[:, 3:] = 7.0
    assert_close(layer(x)[:, :3], before[:, :3])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_size=8 cannot be divided among n_heads=3"):
        block(n_heads=3)
