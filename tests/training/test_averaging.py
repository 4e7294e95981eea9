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


@pytest.mark.parametrize("window", [1, 2.5, 100])
def test_tables_of_which_a_step_changes_some_rows_have_the_same_average(window):
    torch.manual_seed(0)
    tables = [nn.Embedding(7, 3, sparse=True).double() for _ in range(2)]
    tables[1].load_state_dict(tables[0].state_dict())
    other = nn.Parameter(torch.ones(2).double())
    by_row = WeightAverage([other, tables[0].weight], [tables[0].weight])
    whole = WeightAverage([other, tables[1].weight])
    for step in range(12):
        rows = torch.randint(6, (3,))  # the last one rests throughout
        for table, average in zip(tables, (by_row, whole), strict=True):
            optimizer = torch.optim.SparseAdam(table.parameters(), lr=0.1)
            table(rows).square().sum().backward()
            average.before_step()
            optimizer.step()
            average.update(window)
            table.weight.grad = None
        with torch.no_grad():
            other += 1
        if step % 4 == 3:
            with by_row.applied():
                assert_close(tables[0].weight.detach(), whole.average[1])
                assert_close(other.detach(), whole.average[0])
            assert torch.equal(*(table.weight for table in tables))
        if step == 5:
            resumed = WeightAverage([other, tables[0].weight], [tables[0].weight])
            resumed.load_state_dict(by_row.state_dict())
            by_row = resumed
    by_row.apply()
    assert_close(tables[0].weight.detach(), whole.average[1])


def test_a_block_with_the_average_copies_nothing():
    layer = nn.Linear(2, 3)
    average = WeightAverage(layer.parameters())
    average.update(1)
    weights, averages = layer.weight.data_ptr(), average.average[0].data_ptr()

    with average.applied():
        assert layer.weight.data_ptr() == averages

    assert (layer.weight.data_ptr(), average.average[0].data_ptr()) == (weights, averages)


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
