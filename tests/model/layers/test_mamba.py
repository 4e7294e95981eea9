from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.mamba import CrossLayer, GatedRMSNorm, MambaSize, TiSSDLayer

SIZE = MambaSize(hidden_size=8, head_dim=4, d_state=3, n_groups=2, max_length=6, time_norm_eps=1e-5)


def streams(size, b=3):
    torch.manual_seed(0)
    text, image = torch.randn(2, b, size.max_length, size.hidden_size, dtype=torch.float64)
    tau = torch.randn(b, size.n_heads, size.max_length, dtype=torch.float64)
    return text, image, tau if size.use_time else None


def layers(size, inner_size=5):
    torch.manual_seed(1)
    return TiSSDLayer(size, inner_size).double(), CrossLayer(size, inner_size).double()


def time_factors(encoder, cross, tau, real=None):
    """Factors of the two layers' step sizes."""
    if tau is None:
        return None, None
    t, tau_text = encoder.ssd.time_factors(tau, real)
    return t, cross.time_factors(encoder.ssd, tau, tau_text, real)[0]


@pytest.mark.parametrize("longest", [2, 4, 5, 6, 9])
@pytest.mark.parametrize("use_time", [True, False])
@pytest.mark.parametrize("skip", ["dt_x", "x"])
def test_the_last_position_alone_equals_that_of_the_whole_sequence(use_time, skip, longest):
    size = replace(SIZE, use_time=use_time, skip=skip, max_length=longest)
    text, image, tau = streams(size)
    encoder, cross = layers(size)
    t_text, t_image = time_factors(encoder, cross, tau)
    encoded = encoder(text, t_text)
    whole = cross(image, encoded, encoder.ssd, t_image)
    lengths = torch.tensor([1, (longest + 1) // 2, longest])
    end = cross.at_end(image, encoded, encoder.ssd, t_image, lengths)
    assert_close(end, whole[torch.arange(3), lengths - 1])


def test_a_block_does_not_read_later_items():
    text, _, _ = streams(replace(SIZE, use_time=False))
    encoder, _ = layers(replace(SIZE, use_time=False))
    before = encoder(text)
    changed = text.clone()
    changed[:, 4:] = 100.0
    after = encoder(changed)
    assert torch.equal(after[:, :4], before[:, :4])
    assert not torch.equal(after[:, 4:], before[:, 4:])


def test_padding_need_not_be_computed():
    text, _, tau = streams(SIZE)
    encoder, cross = layers(SIZE)
    t, _ = time_factors(encoder, cross, tau)
    assert_close(encoder(text[:, :4], t[:, :4]), encoder(text, t)[:, :4])


def test_the_gated_norm_equals_its_definition():
    torch.manual_seed(0)
    y, z = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    norm, linear = GatedRMSNorm(8, 1e-5).double(), torch.nn.Linear(8, 4).double()
    torch.nn.init.normal_(norm.weight)
    gated = y * F.silu(z)
    expected = linear(F.rms_norm(gated, (8,), norm.weight, 1e-5))
    assert_close(norm(y, z, linear), expected)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="hidden_size 8 x expand 2 = 16.*head_dim 5"):
        MambaSize(hidden_size=8, head_dim=5)
    with pytest.raises(ValueError, match="set head_dim to one of 1, 2, 4, 8, 16.$"):
        MambaSize(hidden_size=8, head_dim=5)
    with pytest.raises(ValueError, match="one of 1, 2, or head_dim to one of 1, 2, 4, 8, 16.$"):
        MambaSize(hidden_size=64)
    with pytest.raises(
        ValueError, match="n_groups 3 does not divide; set n_groups to one of 1, 2, 4.$"
    ):
        MambaSize(hidden_size=8, head_dim=4, n_groups=3)
    with pytest.raises(ValueError, match="ssd_skip.*'none'"):
        replace(SIZE, skip="none")
