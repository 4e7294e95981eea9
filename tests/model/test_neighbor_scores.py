"""What neighbors add to the scores of a whole model."""

import pytest
import torch
from test_contract import SMALL, prepare
from torch.testing import assert_close


@pytest.fixture
def built(toy):
    def build(name, **settings):
        given = {"neighbor_scores": True, "loss_positions": "last", **settings}
        _, model, (train, _, test) = prepare(name, toy, **given)
        return model, next(iter(train)), next(iter(test))[0]

    return build


@pytest.mark.parametrize("name", SMALL)
def test_scores_are_those_of_the_model_and_of_the_neighbors(name, built):
    model, _, batch = built(name)
    model.eval()
    with torch.no_grad():
        user, everything = model.encode(batch), torch.arange(model.n_items)
        profile = model.neighbors.profile(batch["item_id_list"], batch["item_length"])
        parts = model.neighbors.parts(profile, everything)
        expected = model.scores(model.all_items())(user) + sum(parts.values())

        assert_close(model.full_sort_predict(batch)[:, 1:], expected[:, 1:])


@pytest.mark.parametrize("name", SMALL)
def test_a_share_of_the_targets_is_ranked_by_neighbors_alone_in_training_only(name, built):
    model, train, _ = built(name, neighbors_alone=0.5)
    user = torch.ones(4000, model.hidden_size)
    train = train[torch.zeros(4000, dtype=torch.long)]

    def share():
        rows = model.with_profile(user, train)[:, : model.hidden_size]
        assert (rows == rows[:, :1]).all()
        return (rows[:, 0] == 0).float().mean().item()

    assert share() == pytest.approx(0.5, abs=0.05)
    model.eval()
    assert share() == 0


def test_neighbors_without_features_are_refused(toy):
    with pytest.raises(ValueError, match="neighbor_scores needs features: name them in 'modal"):
        prepare("SASRecPlus", toy, modalities=[], neighbor_scores=True)
