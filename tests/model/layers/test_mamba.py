from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.mamba import CrossLayer, MambaSize, TiSSDLayer

SIZE = MambaSize(hidden_size=8, head_dim=4, d_state=3, n_groups=2, max_length=6, time_norm_eps=1e-5)


def streams(size, b=3):
    torch.manual_seed(0)
    text, image = torch.randn(2, b, size.max_length, size.hidden_size, dtype=torch.float64)
    tau = torch.randn(b, size.n_heads, size.max_length, dtype=torch.float64)
    return text, image, tau if size.use_time else None


def layers(size, inner_size=5):
    torch.manual_seed(1)
    return TiSSDLayer(size, inner_size).double(), CrossLayer(size, inner_size).double()


@pytest.mark.parametrize("use_time", [True, False])
@pytest.mark.parametrize("skip", ["dt_x", "x"])
def test_the_end_alone_equals_the_whole_sequence_at_the_end(use_time, skip):
    size = replace(SIZE, use_time=use_time, skip=skip)
    text, image, tau = streams(size)
    encoder, cross = layers(size)
    encoded, tau_text = encoder(text, tau)
    whole, _ = cross(image, encoded, encoder.ssd, tau, tau_text)
    lengths = torch.tensor([1, 4, 6])
    end, _ = cross(image, encoded, encoder.ssd, tau, tau_text, lengths=lengths)
    assert_close(end, whole[torch.arange(3), lengths - 1])


def test_a_block_looks_at_no_later_item():
    text, _, _ = streams(replace(SIZE, use_time=False))
    encoder, _ = layers(replace(SIZE, use_time=False))
    before, _ = encoder(text)
    changed = text.clone()
    changed[:, 4:] = 100.0
    after, _ = encoder(changed)
    assert torch.equal(after[:, :4], before[:, :4])
    assert not torch.equal(after[:, 4:], before[:, 4:])


def test_items_behind_the_cut_need_not_be_computed():
    text, _, tau = streams(SIZE)
    encoder, _ = layers(SIZE)
    whole, tau_whole = encoder(text, tau)
    cut, tau_cut = encoder(text[:, :4], tau)
    assert_close(cut, whole[:, :4])
    assert_close(tau_cut, tau_whole)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="hidden_size 8 x expand 2 = 16.*head_dim 5"):
        MambaSize(hidden_size=8, head_dim=5)
    with pytest.raises(ValueError, match="n_groups 3 must divide the number of heads, 4"):
        MambaSize(hidden_size=8, head_dim=4, n_groups=3)
    with pytest.raises(ValueError, match="ssd_skip.*'none'"):
        replace(SIZE, skip="none")
