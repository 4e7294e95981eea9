import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.ssd import ssd, ssd_at


def random_inputs(b=2, l=7, h=4, p=3, g=2, n=5, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x, dt, A = draw(b, l, h, p), draw(b, l, h).abs(), -draw(h).abs()
    return x, dt, A, draw(b, l, g, n), draw(b, l, g, n), draw(b, l, h)


def recurrence(x, dt, A, B, C, skip):
    b, l, h, p = x.shape
    heads_per_group = h // B.shape[2]
    state = x.new_zeros(b, h, p, B.shape[3])
    y = torch.zeros_like(x)
    for t in range(l):
        for k in range(h):
            group = k // heads_per_group
            step = dt[:, t, k, None, None]
            new = torch.einsum("bp,bn->bpn", x[:, t, k], B[:, t, group])
            state[:, k] = (step * A[k]).exp() * state[:, k] + step * new
            y[:, t, k] = torch.einsum("bpn,bn->bp", state[:, k], C[:, t, group])
            y[:, t, k] += skip[:, t, k, None] * x[:, t, k]
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


def test_ssd_does_not_read_later_positions():
    x, dt, A, B, C, skip = random_inputs(l=6)
    before = ssd(x, dt, A, B, C, skip)
    for changed in (x, dt, B, C, skip):
        changed[:, 4:] = 7.0
    assert torch.equal(ssd(x, dt, A, B, C, skip)[:, :4], before[:, :4])


def test_outputs_are_finite_for_a_huge_decay():
    x, dt, A, B, C, _ = (v.float() for v in random_inputs(l=40))
    y = ssd(x, dt, A * 1e4, B, C)
    assert torch.isfinite(y).all()


@pytest.mark.parametrize("chunk_size", [4, 256])
def test_float32_is_as_exact_after_a_long_decay_as_at_the_start(chunk_size):
    """At the last positions, the first ones have decayed by e to the -10,000."""
    inputs = random_inputs(l=30)
    inputs[1][:, :20] *= 1000
    rounded = [value.float().requires_grad_() for value in inputs]
    exact = [value.detach().double().requires_grad_() for value in rounded]

    expected, y = ssd(*exact)[:, 20:], ssd(*rounded, chunk_size=chunk_size)[:, 20:]
    expected.sum().backward()
    y.sum().backward()

    assert_close(y.double(), expected, atol=0, rtol=1e-4)
    for ours, theirs in zip(rounded, exact, strict=True):
        error = (ours.grad.double() - theirs.grad).abs().max() / theirs.grad.abs().max()
        assert error < 1e-6


def test_positions_computed_alone_equal_those_of_the_whole_sequence():
    x, dt, A, B, C, skip = random_inputs(b=3, l=6)
    whole = ssd(x, dt, A, B, C, skip)
    row = torch.arange(3).unsqueeze(1)
    for position in (torch.tensor([[0], [3], [5]]), torch.tensor([[0, 1], [2, 5], [4, 4]])):
        read = ssd_at(x, dt, A, B, C[row, position], position, skip)
        assert_close(read, whole[row, position])
        assert_close(
            ssd_at(x, dt, A, B, C[row, position], position),
            ssd(x, dt, A, B, C)[row, position],
        )


def test_later_positions_get_no_gradient():
    x, dt, A, B, C, skip = random_inputs(b=1, l=5)
    x.requires_grad_()
    ssd_at(x, dt, A, B, C[:, 2:3], torch.tensor([[2]]), skip).sum().backward()
    assert x.grad[:, :3].abs().min() > 0
    assert not x.grad[:, 3:].any()


def read_the_last(x, dt, A, B, C):
    return ssd_at(x, dt, A, B, C[:, -1:], torch.full((len(x), 1), x.shape[1] - 1))


@pytest.mark.parametrize("scan", [ssd, read_the_last])
def test_groups_must_divide_the_heads(scan):
    *inputs, _ = random_inputs(h=4, g=3)
    with pytest.raises(ValueError, match="4 heads.*3 groups"):
        scan(*inputs)


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
        inputs = [given["x"], dt, given["A"], given["B"], given["C"]]
        expected = {
            k: torch.from_numpy(arrays[f"{case}/out/{k}"])
            for k in ("core64", "y_authors64", "y_mamba64")
        }
        skip = given["D"].expand_as(dt)
        assert_close(ssd(*inputs), expected["core64"], atol=1e-9, rtol=0)
        assert_close(ssd(*inputs, skip * dt), expected["y_authors64"], atol=1e-9, rtol=0)
        assert_close(ssd(*inputs, skip), expected["y_mamba64"], atol=1e-9, rtol=0)
