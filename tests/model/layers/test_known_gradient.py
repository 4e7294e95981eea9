import pytest
import torch

from recbole_mm.model.layers.known_gradient import known_gradient


@pytest.mark.parametrize("recording", [True, False])
def test_gradients_go_on_to_what_the_outputs_were_made_of(recording):
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    square, triple = x.square(), 3 * x

    with torch.set_grad_enabled(recording):
        known_gradient([square, triple], [torch.tensor([1.0, 10.0]), torch.ones(2)]).backward()

    assert x.grad.tolist() == [1 * 2 + 3, 10 * -4 + 3]
