import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.conv import CausalConv1d, causal_conv1d


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_it_is_a_left_padded_depthwise_convolution(length):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, length, 3), torch.randn(3, 4), torch.randn(3)
    expected = F.conv1d(F.pad(x.mT, (3, 0)), weight.unsqueeze(1), bias, groups=3).mT
    assert_close(causal_conv1d(x, weight, bias), expected)


@pytest.mark.parametrize("length", [1, 2, 4, 9])
def test_a_constant_added_before_it_counts_where_there_are_steps(length):
    torch.manual_seed(0)
    x, weight, bias, before = (torch.randn(*s) for s in ((2, length, 3), (3, 4), (3,), (3,)))
    expected = causal_conv1d(x + before, weight, bias)
    assert_close(causal_conv1d(x, weight, bias, before), expected)


def test_parts_are_the_channels_of_the_whole():
    torch.manual_seed(0)
    conv, x = CausalConv1d(5, 4), torch.randn(2, 6, 5)
    parts = conv.by_parts(x[..., :2], x[..., 2:], before=[None, None])
    assert_close(torch.cat(parts, dim=-1), conv(x))


def test_gradients():
    torch.manual_seed(0)
    inputs = [torch.randn(*s, dtype=torch.float64) for s in ((2, 5, 3), (3, 4), (3,), (3,))]
    assert torch.autograd.gradcheck(causal_conv1d, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize("length", [1, 3, 6])
def test_the_last_step_alone_equals_that_of_the_whole_sequence(length):
    torch.manual_seed(0)
    conv = CausalConv1d(3, 4)
    x = torch.randn(2, length, 3)
    window = F.pad(x, (0, 0, 4, 0))[:, -4:]
    assert_close(conv.at_end(window), conv(x)[:, -1])
