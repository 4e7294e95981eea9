import numpy as np
import pandas as pd
import pytest

from recbole_mm.data.sequences import (
    among_kept,
    cut_at_moments,
    leave_one_out,
    n_tied_targets,
    order_of_events,
    prefixes,
    steps_to_end,
    users_by_start,
    windows,
)

USERS = np.array([7, 7, 7, 3, 9, 9])


def test_every_event_but_a_users_first_has_those_before_it():
    assert np.stack(prefixes(USERS)).T.tolist() == [[1, 0, 1], [2, 0, 2], [5, 4, 5]]


def test_prefixes_among_kept_events_are_the_kept_part_of_the_prefix():
    given, kept = prefixes(USERS), np.array([True, False, True, True, False, True])

    found = among_kept(given, kept)

    rows = np.flatnonzero(kept)
    histories = {
        int(t): [r for r in range(a, b) if kept[r]] for t, a, b in zip(*given, strict=True)
    }
    assert {int(t): rows[a:b].tolist() for t, a, b in zip(*found, strict=True)} == {
        t: history for t, history in histories.items() if history
    }


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_windows_are_short_runs_of_one_user_with_every_target_once(length):
    rows, users = np.array([1, 2, 3, 4, 5, 7, 8]), np.array([0, 0, 0, 0, 0, 0, 1])

    first, last = windows(rows, users, length)

    spans = [list(range(a, b + 1)) for a, b in zip(first, last, strict=True)]
    assert np.concatenate(spans).tolist() == list(range(len(rows)))
    for span in spans:
        assert len(span) <= length and len(set(users[span])) == 1
        assert rows[span].tolist() == list(range(rows[span[0]], rows[span[-1]] + 1))
    assert len(spans[0]) == (5 - 1) % length + 1, "the earliest run is the short one"


def test_leave_one_out_takes_the_last_events_of_each_user_as_they_appear():
    train, valid, test = leave_one_out(np.array([5, 2, 5, 2, 5, 1, 2]), 2)

    assert (train.tolist(), valid.tolist(), test.tolist()) == ([0, 1, 5], [2, 3], [4, 6])


def test_one_event_of_a_user_always_stays_in_training():
    train, valid, test = leave_one_out(np.array([1, 1, 2]), 2)

    assert (train.tolist(), valid.tolist(), test.tolist()) == ([0, 2], [], [1])


def test_a_cut_leaves_events_of_one_moment_together_on_the_later_side():
    assert cut_at_moments(np.array([0.0, 1.0, 1.0, 1.0, 2.0]), [2, 4]) == [0, 1, 4, 5]


def test_steps_to_end():
    ends = np.array([True, False, False, True])
    assert steps_to_end(ends).tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize(
    ("ties", "expected"), [("file", ["c", "b", "a", "d"]), ("item", ["a", "b", "c", "d"])]
)
def test_events_at_the_same_time_are_in_the_chosen_order(ties, expected):
    users, times = np.array([0, 0, 0, 0]), np.array([5.0, 5.0, 5.0, 7.0])
    tokens = np.array(["c", "b", "a", "d"])

    ranks = np.argsort(np.argsort(tokens))

    assert tokens[order_of_events(users, times, ties, ranks)].tolist() == expected


def test_a_random_order_of_ties_is_the_same_in_every_run_and_keeps_users_and_times():
    users, times = np.repeat([1, 0], 50), np.tile(np.repeat([3.0, 1.0], 25), 2)

    first, again = (order_of_events(users, times, "random") for _ in range(2))

    assert first.tolist() == again.tolist()
    assert first.tolist() != order_of_events(users, times, "file").tolist()
    assert users[first].tolist() == sorted(users)
    assert times[first].tolist() == np.tile(np.repeat([1.0, 3.0], 25), 2).tolist()


@pytest.mark.parametrize("is_ordered", [False, True])
def test_events_are_ordered_by_user_part_and_time_and_as_in_the_file_where_these_are_equal(
    is_ordered,
):
    random = np.random.default_rng(0)
    users, parts = random.integers(0, 9, 300), random.integers(0, 2, 300)
    times = random.choice([0.0, -0.0, 0.25, 1e9 + 0.5], 300)
    if is_ordered:
        users, parts, times = (v[np.lexsort([times, parts, users])] for v in (users, parts, times))

    order = order_of_events(users, times, "file", parts=parts)

    assert order.tolist() == np.lexsort([times, parts, users]).tolist()


def test_users_are_in_the_order_in_which_a_sort_by_time_finds_them():
    random = np.random.default_rng(0)
    users = np.sort(random.integers(0, 30, 200))
    times = random.integers(0, 50, 200).astype(float)
    times = times[np.lexsort([times, users])]

    rows = users_by_start(users, times)

    by_time = np.argsort(times, kind="stable")
    expected = np.concatenate([by_time[users[by_time] == u] for u in pd.unique(users[by_time])])
    assert rows.tolist() == expected.tolist()


def test_targets_that_depend_on_the_order_of_ties_are_counted():
    users = np.array([0, 0, 0, 1, 1, 2, 3, 3])
    times = np.array([1.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 2.0])

    assert n_tied_targets(users, times) == 2
    assert n_tied_targets(users[:0], times[:0]) == 0
