"""Commands that are killed or interrupted, and run again; ``python tests/kills.py`` kills more often."""

import pytest
from fork_server import ADDRESS
from kills import CASES, Undisturbed, points_of
from readers import Shelf
from zygote import Zygote

KILLS = 3
STARTS_PROCESSES = {"compare"}  # that import torch: one kill is enough
NO_COMMANDS = {"compare-worker"}
SIGNALS = (
    ("SIGINT", 130, "error: interrupted"),
    ("SIGTERM", 143, "error: terminated"),
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    return Shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def zygote(fork_server):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ADDRESS, fork_server.address)
        with Zygote() as zygote:
            yield zygote


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_command_that_is_killed_or_interrupted_and_run_again_gives_what_it_would_have_given(
    name, zygote, shelf, tmp_path
):
    case = Undisturbed(CASES[name], zygote, shelf, tmp_path / "case")

    if name not in NO_COMMANDS:
        case.interrupt(case.points // 2, *SIGNALS[list(CASES).index(name) % len(SIGNALS)])
    for points in points_of(case, 1 if name in STARTS_PROCESSES else KILLS, seed=1):
        case.kill(points)
