import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.ssd import ssd, ssd_at_end


def random_inputs(b=2, l=7, h=4, p=3, g=2, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return draw(b, l, h, p), -draw(b, l, h).abs(), draw(b, l, g, n), draw(b, l, g, n)


def recurrence(x, dA, B, C):
    b, l, h, p = x.shape
    heads_per_group = h // B.shape[2]
    state = x.new_zeros(b, h, p, B.shape[3])
    y = torch.zeros_like(x)
    for t in range(l):
        for k in range(h):
            group = k // heads_per_group
            state[:, k] = dA[:, t, k].exp()[:, None, None] * state[:, k] + torch.einsum(
                "bp,bn->bpn", x[:, t, k], B[:, t, group]
            )
            y[:, t, k] = torch.einsum("bpn,bn->bp", state[:, k], C[:, t, group])
    return y


@pytest.mark.parametrize("l", [1, 2, 50])
@pytest.mark.parametrize("g", [1, 2, 4])
def test_ssd_equals_its_recurrence(l, g):
    inputs = random_inputs(l=l, g=g)
    assert_close(ssd(*inputs), recurrence(*inputs))


@pytest.mark.parametrize("chunk_size", [1, 3, 7, 10, 11])
def test_chunks_do_not_change_the_result(chunk_size):
    inputs = random_inputs(l=10)
    assert_close(ssd(*inputs, chunk_size=chunk_size), recurrence(*inputs))


def test_ssd_passes_gradcheck_in_one_form_and_in_chunks():
    inputs = [x.requires_grad_() for x in random_inputs(b=1, l=4, h=2, p=2, g=1, n=2)]
    assert torch.autograd.gradcheck(ssd, inputs)
    assert torch.autograd.gradcheck(lambda *args: ssd(*args, chunk_size=2), inputs)


def test_ssd_looks_at_no_later_position():
    x, dA, B, C = random_inputs(l=6)
    before = ssd(x, dA, B, C)
    for changed in (x, dA, B, C):
        changed[:, 4:] = -7.0
    assert torch.equal(ssd(x, dA, B, C)[:, :4], before[:, :4])


def test_decay_of_minus_infinity_size_stays_finite():
    x, dA, B, C = (v.float() for v in random_inputs(l=40))
    y = ssd(x, dA * 1e4, B, C)
    assert torch.isfinite(y).all()


def test_end_equals_the_whole_sequence_at_each_length():
    x, dA, B, C = random_inputs(l=6)
    for length in range(1, 7):
        real = torch.arange(6) < length
        end = ssd_at_end(
            x * real[None, :, None, None], dA * real[None, :, None], B, C[:, length - 1]
        )
        assert_close(end, ssd(x, dA, B, C)[:, length - 1])


@pytest.mark.parametrize("scan", [ssd, lambda x, dA, B, C: ssd_at_end(x, dA, B, C[:, -1])])
def test_groups_must_divide_the_heads(scan):
    x, dA, B, C = random_inputs(h=4, g=3)
    with pytest.raises(ValueError, match="4 heads.*3 groups"):
        scan(x, dA, B, C)


def test_vectors_of_the_authors_kernel(golden_dir):
    """The released skip term adds D * dt * x, mamba_ssm's adds D * x."""
    import numpy as np
    import torch.nn.functional as F

    path = golden_dir / "ssd_kernel.npz"
    arrays = np.load(path, allow_pickle=False)
    cases = sorted({name.split("/")[0] for name in arrays.files})
    assert cases
    for case in cases:
        given = {
            k: torch.from_numpy(arrays[f"{case}/in/{k}"]).double()
            for k in ("x", "dt", "A", "B", "C", "D", "dt_bias")
        }
        dt = F.softplus(given["dt"] + given["dt_bias"])
        scaled = given["x"] * dt.unsqueeze(-1)
        core = ssd(scaled, dt * given["A"], given["B"], given["C"])
        expected = {
            k: torch.from_numpy(arrays[f"{case}/out/{k}"])
            for k in ("core64", "y_authors64", "y_mamba64")
        }
        skip = given["D"].unsqueeze(-1)
        assert_close(core, expected["core64"], atol=1e-9, rtol=0)
        assert_close(core + skip * scaled, expected["y_authors64"], atol=1e-9, rtol=0)
        assert_close(core + skip * given["x"], expected["y_mamba64"], atol=1e-9, rtol=0)
