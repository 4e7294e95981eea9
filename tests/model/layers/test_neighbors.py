import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from recbole_mm.model.layers.feature_transform import fit_transform
from recbole_mm.model.layers.item_table import ItemTable
from recbole_mm.model.layers.neighbors import STEP, NeighborScores, whitening
from recbole_mm.model.layers.softmax import dot_products

SEQ = torch.tensor([[3, 5, 3, 7, 0], [2, 4, 2, 2, 0]])
WEIGHT = {"text": 0.3, "image": -0.2}
DECAY = {"text": 0.9, "image": 0.25}


@pytest.fixture
def items():
    torch.manual_seed(0)
    present = {m: torch.ones(9, dtype=torch.bool) for m in WEIGHT}
    for m in WEIGHT:
        present[m][0] = False
    present["image"][5] = False
    features = {
        "text": (torch.randn(9, 6), present["text"]),
        "image": (torch.randn(9, 4), present["image"]),
    }
    return ItemTable(features, torch.ones(9, dtype=torch.bool))


@pytest.fixture
def neighbors(items):
    module = NeighborScores(items, 3).double()
    with torch.no_grad():
        for m, weight in WEIGHT.items():
            module.weight[m].fill_(weight)
            module.decay[m].fill_(torch.tensor(DECAY[m]).logit())
    module.refresh(items)
    return module


def by_definition(items, history, m, item):
    """The sum over the history of weighted cosines of whitened features."""
    rows = items.present(m)
    x = items.feature(m).double()
    mean, (variance, axes) = x[rows].mean(0), torch.linalg.eigh(torch.cov(x[rows].T))
    white = ((x - mean) @ axes.flip(1) / variance.flip(0).sqrt())[:, :3] * rows.unsqueeze(1)
    age = range(len(history) - 1, -1, -1)
    cosines = [F.normalize(white[h], dim=0) @ F.normalize(white[item], dim=0) for h in history]
    return STEP * WEIGHT[m] * sum(DECAY[m] ** a * c for a, c in zip(age, cosines, strict=True))


def test_scores_are_the_decayed_sum_of_similarities_to_the_history(items, neighbors):
    profile = neighbors.profile(SEQ, torch.tensor([4, 3]))

    for row, history in enumerate(([3, 5, 3, 7], [2, 4, 2])):
        parts = neighbors.parts(profile, torch.arange(9))
        for m in WEIGHT:
            expected = torch.stack([by_definition(items, history, m, item) for item in range(9)])
            assert_close(parts[m][row], expected, atol=1e-5, rtol=1e-5)


def test_several_ends_of_a_row_equal_each_alone(neighbors):
    end, row = torch.tensor([1, 4, 2]), torch.tensor([1, 0, 1])

    assert_close(neighbors.profile(SEQ, end, row), neighbors.profile(SEQ[row], end))


def test_what_follows_the_end_does_not_matter(neighbors):
    other = torch.tensor([[3, 5, 8, 8, 8]])

    assert_close(
        neighbors.profile(SEQ[:1], torch.tensor([2])), neighbors.profile(other, torch.tensor([2]))
    )


def test_they_are_added_to_the_scores_of_the_model(neighbors):
    user, candidates = torch.randn(2, 5).double(), torch.randn(9, 5).double()
    profile = neighbors.profile(SEQ, torch.tensor([4, 3]))

    scores = neighbors.add_to(dot_products(candidates), neighbors.table)

    total = sum(neighbors.parts(profile, torch.arange(9)).values())
    both = torch.cat([user, profile], dim=1)
    assert_close(scores(both), user @ candidates.T + total)
    assert_close(scores.block(2, 5)(both), scores(both)[:, 2:5])
    vectors = scores.bounds(*scores.tables)
    assert_close((both @ vectors.transpose(1, 2)).amax(dim=0), scores(both))


def test_gradients_arrive_at_weights_and_decays_alone(neighbors):
    neighbors.profile(SEQ, torch.tensor([4, 3])).square().sum().backward()

    learned = dict(neighbors.named_parameters())
    assert sorted(learned) == ["decay.image", "decay.text", "weight.image", "weight.text"]
    assert all(parameter.grad.ne(0) for parameter in learned.values())


def test_changed_features_are_projected_on_the_same_axes(items, neighbors):
    before = neighbors.table.clone()
    source = torch.tensor([0, 2, 1, 3, 4, 5, 6, 7, 8])

    items.permute_features(source)
    neighbors.refresh(items)

    assert_close(neighbors.table, before[source])


@pytest.mark.parametrize("kind", ["whiten", "pca"])
def test_they_read_the_features_before_a_transform_of_the_model(items, neighbors, kind):
    features = {m: (items.feature(m), items.present(m)) for m in items.modalities}
    transforms = {m: fit_transform(x[p], kind) for m, (x, p) in features.items()}
    projected = ItemTable(features, items.trained, transforms)

    table = NeighborScores(projected, 3).table

    assert_close(table @ table.T, (neighbors.table @ neighbors.table.T).float())
    source = torch.tensor([0, 2, 1, 3, 4, 5, 6, 7, 8])
    of_projected = NeighborScores(projected, 3)
    projected.permute_features(source)
    of_projected.refresh(projected)
    assert_close(of_projected.table, table[source])
    projected.keep_modalities(["text"])
    of_projected.refresh(projected)
    assert not of_projected.table[:, 3:].any()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_the_width_of_a_whitening_does_not_depend_on_the_number_of_items(n):
    x = torch.randn(n, 6)

    transform = whitening(x, 4)

    assert transform.axes.shape == (6, 4)
    assert torch.isfinite(transform(x, torch.ones(n, dtype=torch.bool))).all()


def test_features_are_whitened_to_unit_variance_on_their_main_axes():
    x = torch.randn(500, 6) @ torch.randn(6, 6)

    white = whitening(x, 6)(x, torch.ones(500, dtype=torch.bool))

    assert_close(torch.cov(white.T), torch.eye(6), atol=1e-3, rtol=1e-3)
