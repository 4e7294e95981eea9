import pytest
import torch
from torch.testing import assert_close

from recbole_mm.model.layers.feature_transform import fit_transform
from recbole_mm.model.layers.item_table import ItemTable


@pytest.fixture
def features():
    """200 items of which two have no features, correlated and far from the origin."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, 6, generator=generator) @ torch.randn(6, 6, generator=generator) + 5
    present = torch.ones(200, dtype=torch.bool)
    present[[0, 3]] = False
    values[~present] = 0
    return values, present


def test_whitened_features_have_unit_covariance(features):
    values, present = features
    white = fit_transform(values[present], "whiten")(values, present)

    assert_close(white[present].T.cov(), torch.eye(6), atol=1e-3, rtol=0)
    assert (white[[0, 3]] == 0).all()


def test_zca_whitens_and_keeps_the_directions(features):
    values, present = features
    x = values[present]
    transform = fit_transform(x, "zca")

    white = transform(values, present)[present]

    assert_close(white.T.cov(), torch.eye(6), atol=1e-3, rtol=0)
    assert_close(transform.axes, transform.axes.T, atol=1e-4, rtol=0)
    assert (torch.linalg.eigvalsh(transform.axes) > 0).all()  # stretches, and does not turn
    fewer = fit_transform(x, "zca", 2)(values, present)[present]
    assert torch.linalg.matrix_rank(fewer, rtol=1e-3) == 2
    assert fewer.shape == white.shape


def test_the_dimension_cuts_the_axes(features):
    values, present = features
    assert fit_transform(values[present], "whiten", 2)(values, present).shape == (200, 2)


def test_whitening_keeps_no_axis_without_variance():
    x = torch.randn(50, 2) @ torch.randn(2, 5)
    assert fit_transform(x, "whiten").axes.shape == (5, 2)


@pytest.mark.parametrize("kind", ["whiten", "zca", "pca"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_features_that_do_not_differ_have_no_axes(kind, rows):
    with pytest.raises(ValueError, match=f"{kind} needs features that differ; {rows} items"):
        fit_transform(torch.ones(rows, 3), kind)


def test_principal_axes_keep_distances(features):
    values, present = features
    x = values[present]
    rotated = fit_transform(x, "pca")(values, present)[present]

    distances = [torch.cdist(rows.double(), rows.double()) for rows in (rotated, x)]
    assert_close(*distances, atol=1e-3, rtol=1e-3)
    first_two = fit_transform(x, "pca", 2)(values, present)[present]
    assert_close(first_two, rotated[:, :2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["whiten", "zca", "pca"])
def test_a_table_that_loads_a_transform_projects_its_items_on_the_loaded_axes(features, kind):
    values, present = features
    trained = torch.ones(200, dtype=torch.bool)
    source = fit_transform(values[present], kind)
    before = ItemTable({"text": (values, present)}, trained, {"text": source})
    more = torch.cat([values, 100 * torch.randn(6, 6)])  # new items, unlike the others
    known = torch.cat([present, torch.ones(6, dtype=torch.bool)])
    later = ItemTable(
        {"text": (more, known)}, torch.ones(206).bool(), {"text": fit_transform(more[known], kind)}
    )
    assert not torch.allclose(later.feature("text")[:200], before.feature("text"))

    later.load_state_dict(before.state_dict())

    assert_close(later.feature("text")[:200], before.feature("text"))
    assert_close(later.feature("text")[200:], (more[200:] - source.mean) @ source.axes)
