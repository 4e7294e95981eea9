from functools import partial

import pytest
import torch

from recbole_mm.model.layers.screening import Screen
from recbole_mm.model.layers.softmax import dot_products
from recbole_mm.model.layers.top_k import BestSoFar

TABLES = {
    "normal": lambda random: torch.randn(3000, 24, generator=random),
    "some long": lambda random: (
        torch.randn(3000, 24, generator=random)
        * torch.rand(3000, 1, generator=random).reciprocal().clamp(max=20)
    ),
    "small": lambda random: 1e-12 * torch.randn(3000, 24, generator=random),
    "all negative": lambda random: -torch.rand(3000, 24, generator=random),
    "far from zero": lambda random: 10 + torch.randn(3000, 24, generator=random),
    "duplicates": lambda random: torch.randn(100, 24, generator=random).repeat(30, 1),
}
TABLE = pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)


def users_and_items(table):
    random = torch.Generator().manual_seed(1)
    users = torch.randn(20, 24, generator=random).abs()
    users[0], users[1] = 1e3 * users[0], 0.0
    return users, table(random)


@TABLE
def test_scores_that_differ_by_more_than_the_slack_are_in_the_right_order(table):
    users, items = users_and_items(table)
    exact = users.double() @ items.double().T

    found = Screen.from_items(items).read(users)
    scores = found.block(0, len(items))

    first, second = torch.randint(len(items), (2, 5000), generator=torch.Generator().manual_seed(2))
    ahead = (scores[:, first] - scores[:, second]) > found.slack.unsqueeze(1)
    assert bool(ahead.any()) and not bool(ahead[1].any())
    assert bool((exact[:, first] > exact[:, second])[ahead].all())


@TABLE
@pytest.mark.parametrize("size", [100, 640, 3000])
def test_the_best_of_a_screen_are_the_best_of_the_scores(table, size):
    users, items = users_and_items(table)
    scores = dot_products(items)
    found = Screen.from_items(items).read(users)

    best = BestSoFar(len(users), 5, found.slack, found.slack)
    for first in range(0, len(items), size):
        best.add(found.block(first, min(first + size, len(items))), first)

    found = best.result(partial(scores.of_pairs, users))
    if found is None:
        assert best.is_crowded and table is TABLES["duplicates"]
        return
    values, columns = found
    expected = scores(users).topk(5, dim=1).values
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(scores(users).gather(1, columns), values, rtol=1e-5, atol=0)
    assert all(len(set(row)) == 5 for row in columns.tolist())
    assert columns[1].tolist() == [0, 1, 2, 3, 4]  # of a user without a preference


def test_a_block_of_a_screen_is_the_screen_of_these_items():
    users, items = users_and_items(TABLES["normal"])
    screen = Screen.from_items(items)

    part = screen.block(100, 200).read(users).block(10, 20)

    assert part.equal(screen.read(users).block(110, 120))
