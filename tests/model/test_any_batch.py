"""The scores of a user are those of her events alone, whatever else is in the batch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.data.interaction import Interaction
from test_contract import SMALL, prepare
from torch.testing import assert_close

WIDTH, N_ITEMS, DAY = 50, 12, 86_400.0

users = st.lists(st.integers(1, N_ITEMS), min_size=1, max_size=6)
batches = st.lists(users, min_size=1, max_size=5)


@pytest.fixture(scope="module")
def models():
    return {}


def batch_of(lists, width: int) -> Interaction:
    """Histories with an event per day, padded to a width."""
    ids, times = (torch.zeros(len(lists), width, dtype=t) for t in (torch.long, torch.float64))
    for row, items in enumerate(lists):
        ids[row, : len(items)] = torch.tensor(items)
        times[row, : len(items)] = 1.4e9 + DAY * torch.arange(len(items))
    lengths = torch.tensor([len(items) for items in lists])
    fields = {"item_id_list": ids, "timestamp_list": times, "item_length": lengths}
    return Interaction({**fields, "timestamp": 1.4e9 + DAY * lengths.double()})


def scores(model, lists, width: int) -> torch.Tensor:
    with torch.no_grad():
        return model.full_sort_predict(batch_of(lists, width))


@pytest.mark.parametrize("name", SMALL)
@settings(max_examples=10)
@given(batches, users, st.integers(0, 4), st.randoms(use_true_random=False))
def test_scores_are_those_of_the_user_alone(name, toy, models, lists, own, more, rng):
    if name not in models:  # all examples and one model
        given_settings = {"use_time": False} if name == "MMM4Rec" else {}
        _, model, _ = prepare(name, toy, MAX_ITEM_LIST_LENGTH=WIDTH, **given_settings)
        models[name] = model.eval()
        model.on_epoch_start(0)
    alone = scores(models[name], [own], len(own))
    place = rng.randrange(len(lists) + 1)
    batch = [*lists[:place], own, *lists[place:]]

    together = scores(models[name], batch, max(map(len, batch)) + more)

    assert_close(together[place], alone[0], atol=1e-5, rtol=1e-5)
