"""Commands that are killed and run again; ``python tests/kills.py`` kills more often."""

import pytest
from kills import CASES, Undisturbed, points_of
from readers import Shelf
from zygote import Zygote

KILLS = 3
STARTS_PROCESSES = {"compare"}  # that import torch: one kill is enough


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_and_run_again_gives_what_it_would_have_given(
    name, zygote, shelf, tmp_path
):
    case = Undisturbed(CASES[name], zygote, shelf, tmp_path / "case")

    for points in points_of(case, 1 if name in STARTS_PROCESSES else KILLS, seed=1):
        case.kill(points)
