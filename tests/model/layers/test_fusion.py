import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.fusion import FUSIONS, CandidateFusion


def embeddings(n=4, m=2, d=3):
    torch.manual_seed(0)
    return [torch.randn(n, d) for _ in range(m)]


def test_static_is_the_sum_of_unit_vectors():
    a, b = embeddings()
    fused = CandidateFusion("static", 2, 4)([a, b], None)
    assert_close(fused, F.normalize(a, dim=-1) + F.normalize(b, dim=-1))


@pytest.mark.parametrize("mode", FUSIONS)
def test_weights_of_missing_modalities_go_to_the_others(mode):
    a, b = embeddings()
    fusion = CandidateFusion(mode, 2, 4)
    available = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    fused = fusion([a, b], available)
    total = 2 if mode == "static" else 1
    assert_close(fused[1], total * F.normalize(a[1], dim=0))
    assert_close(fused[2], total * F.normalize(b[2], dim=0))
    assert_close(fused[0], fusion([a, b], None)[0])
    assert fused[3].tolist() == [0, 0, 0]


def test_gradients_are_finite_for_an_item_without_modalities():
    a, b = (e.requires_grad_() for e in embeddings())
    fusion = CandidateFusion("dynamic_instance", 2, 4)
    fusion([a, b], torch.zeros(4, 2, dtype=torch.bool)).sum().backward()
    assert torch.isfinite(fusion.weight.grad).all()


def test_instance_weights_belong_to_their_items():
    a, b = embeddings()
    fusion = CandidateFusion("dynamic_instance", 2, 4)
    fusion.weight.data[2, 0] = 50.0
    ids = torch.tensor([2, 0])
    assert_close(fusion([a[ids], b[ids]], None, ids)[0], F.normalize(a[2], dim=0))


def test_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="item_mm_fusion.*'sum'"):
        CandidateFusion("sum", 2, 4)
