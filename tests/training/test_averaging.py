import pytest
import torch
from torch import nn
from torch.testing import assert_close

from recbole_mm.training.averaging import WeightAverage


@pytest.mark.parametrize("window", [1, 2.5, 100])
def test_it_equals_its_definition(window):
    torch.manual_seed(0)
    layer, frozen = nn.Linear(2, 3).double(), nn.Parameter(torch.ones(2), requires_grad=False)
    average = WeightAverage([*layer.parameters(), frozen])
    steps = []
    for _ in range(6):
        with torch.no_grad():
            layer.weight.normal_()
        steps.append(layer.weight.detach().clone())
        average.update(window)

    share = (1 - 1 / window) ** torch.arange(5, -1, -1).double()
    expected = torch.einsum("s,sij->ij", share / share.sum(), torch.stack(steps))

    with average.applied():
        assert_close(layer.weight.detach(), expected)
    assert torch.equal(layer.weight, steps[-1])
    assert len(average.average) == 2, "what is frozen is not copied"


def test_before_the_first_step_it_is_the_parameters_also_when_they_have_been_loaded_since():
    layer = nn.Linear(2, 3)
    average = WeightAverage(layer.parameters())
    with torch.no_grad():
        layer.weight.fill_(7)
    with average.applied():
        assert (layer.weight == 7).all()


def test_the_block_gives_the_parameters_back_after_an_error():
    layer = nn.Linear(2, 3)
    average = WeightAverage(layer.parameters())
    average.update(1)
    with torch.no_grad():
        layer.weight.zero_()
    with pytest.raises(KeyboardInterrupt), average.applied():
        raise KeyboardInterrupt
    assert (layer.weight == 0).all()
