import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.time import (
    LengthNorm,
    PastSum,
    RunningNorm,
    TimeGate,
    TimeScale,
    padded_differences,
    time_intervals,
)

DAY = 86400.0


def test_intervals_are_days_since_the_event_before():
    stamps = torch.tensor([[0, 2, 5, 0.0]], dtype=torch.float64) * DAY
    assert time_intervals(stamps, torch.tensor([3])).tolist() == [[0, 2, 3, 0]]


def test_a_second_is_not_rounded_away_in_unix_time():
    stamps = torch.tensor([[1_700_000_000, 1_700_000_001]], dtype=torch.float64)
    assert_close(time_intervals(stamps, torch.tensor([2]))[0, 1].item(), 1 / DAY, rtol=1e-6, atol=0)


def test_with_a_request_intervals_are_those_after_an_event():
    stamps = torch.tensor([[1, 2, 5, 0.0], [1, 1, 2, 4]], dtype=torch.float64) * DAY
    request = torch.tensor([9.0, 4.5], dtype=torch.float64) * DAY
    intervals = time_intervals(stamps, torch.tensor([3, 4]), request)
    assert intervals.tolist() == [[1, 3, 4, 0], [0, 1, 2, 0.5]]


def test_padding_and_negative_intervals_are_zero():
    stamps = torch.tensor([[5, 3, 99.0]], dtype=torch.float64) * DAY
    assert time_intervals(stamps, torch.tensor([2])).tolist() == [[0, 0, 0]]


def test_padded_differences_contain_the_time_of_the_target():
    stamps = torch.tensor([[10.0, 30.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
    differences = padded_differences(
        stamps, torch.tensor([2, 4]), torch.tensor([70.0, 9.0], dtype=torch.float64)
    )
    assert differences.tolist() == [[0, 20, 40, -70], [0, 1, 1, 1]]


def test_norm_over_real_positions_ignores_the_others():
    torch.manual_seed(0)
    norm = LengthNorm(5, eps=1e-5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    tau, real = torch.randn(2, 3, 5), torch.tensor([1, 1, 1, 0, 0]).bool().view(1, 1, 5)
    expected = F.layer_norm(tau[..., :3], (3,), norm.weight[:3], norm.bias[:3], 1e-5)
    assert_close(norm(tau, real)[..., :3], expected)
    changed = tau.clone()
    changed[..., 3:] = 1e9
    assert torch.equal(norm(changed, real), norm(tau, real))
    assert (norm(tau, real)[..., 3:] == 0).all()


def test_norm_of_a_single_event_has_finite_gradients():
    tau = torch.randn(1, 2, 4, requires_grad=True)
    real = torch.tensor([True, False, False, False]).view(1, 1, 4)
    LengthNorm(4, eps=1e-5)(tau, real).sum().backward()
    assert torch.isfinite(tau.grad).all()


def test_scale_starts_near_one_with_gradients():
    torch.manual_seed(0)
    scale = TimeScale(n_heads=3, length=6, kernel_size=4, dropout=0.0)
    scale.start_as_one()
    tau = torch.randn(8, 3, 6, requires_grad=True)
    t = scale(tau)
    assert abs(t.mean().item() - 1) < 0.5
    t.square().sum().backward()
    assert tau.grad.abs().max() > 1e-3
    assert scale.scale_in.weight.grad.abs().max() > 1e-3


def test_gate_keeps_shape_with_one_or_many_gates():
    tau, t = torch.randn(2, 2, 3, 6)
    for per_position in (False, True):
        assert TimeGate(6, 0.0, 1e-5, per_position)(tau, t).shape == tau.shape


def test_running_norm_is_at_every_position_the_norm_of_the_events_so_far():
    torch.manual_seed(0)
    running, whole = RunningNorm(6, eps=1e-5), LengthNorm(6, eps=1e-5)
    torch.nn.init.normal_(running.weight)
    whole.load_state_dict(running.state_dict())
    tau, position = torch.randn(2, 3, 6), torch.arange(6)

    for t in range(6):
        so_far = whole(tau, (position <= t).view(1, 1, 6))
        assert_close(running(tau)[..., t], so_far[..., t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("per_position", [False, True])
def test_causal_time_layers_read_no_later_position(per_position):
    torch.manual_seed(0)
    scale = TimeScale(n_heads=2, length=6, kernel_size=3, dropout=0.0, causal=True)
    gate = TimeGate(6, 0.0, 1e-5, per_position, causal=True)
    tau = torch.randn(2, 2, 6)
    for layer in (scale, lambda x: gate(x, x.square())):
        before = layer(tau)
        for t in range(5):
            later = tau.clone()
            later[..., t + 1 :] = 7
            assert_close(layer(later)[..., : t + 1], before[..., : t + 1])
            assert not torch.allclose(layer(later)[..., t + 1], before[..., t + 1])


def test_a_sum_of_the_past_is_at_every_position_the_linear_layer_of_the_events_so_far():
    torch.manual_seed(0)
    past, tau = PastSum(6), torch.randn(2, 3, 6)

    for t in range(6):
        so_far = F.linear(tau * (torch.arange(6) <= t), past.weight, past.bias)
        assert_close(past(tau)[..., t], so_far.squeeze(-1))
