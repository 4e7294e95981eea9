r"""Events of users as ordered rows: which rows form a split, a prefix, a window.

Pure functions of arrays; rows are indices of the ``N`` events.
"""

from typing import NamedTuple

import numpy as np
import polars as pl


class Prefixes(NamedTuple):
    """One entry per target: the event in row ``target``, after the rows ``[first, end)``.

    Attributes:
        target: ``(n,)``.
        first: ``(n,)``.
        end: ``(n,)``.
    """

    target: np.ndarray
    first: np.ndarray
    end: np.ndarray


TIE_ORDERS = ("file", "item", "random")


def order_of_events(
    users: np.ndarray,
    times: np.ndarray,
    ties: str,
    item_ranks: np.ndarray | None = None,
    parts: np.ndarray | None = None,
) -> np.ndarray:
    """Sort rows by user, then by time; events of a user at the same time in the order of ``ties``.

    Args:
        users: user of each event, ``(N,)``.
        times: time of each event, ``(N,)``, without NaN.
        ties: ``file`` keeps the order of the rows, ``item`` compares the items' tokens as text (the
            order of the published files of Amazon data sets), ``random`` shuffles with a fixed
            seed, so that every run is tested on the same targets.
        item_ranks: rank of each event's item token among all tokens as text; only ``item`` needs
            it.
        parts: part of each event, a number that takes precedence over its time: training comes
            before the test.

    Returns:
        ``(N,)`` row numbers.

    Raises:
        ValueError: ``ties`` is not one of :data:`TIE_ORDERS`.
    """
    if ties not in TIE_ORDERS:
        raise ValueError(f"tie_order must be one of {TIE_ORDERS}, not {ties!r}.")
    keys: list = [users, times + 0.0]  # -0.0 is the same time as 0.0
    if parts is not None:
        keys.insert(1, parts)
    if ties == "item":
        keys.append(item_ranks)
    elif ties == "random":
        keys.append(np.random.default_rng(0).permutation(len(users)))
    if _is_ordered(keys):
        return np.arange(len(users))
    table = pl.DataFrame({str(place): key for place, key in enumerate(keys)})
    order = table.select(pl.arg_sort_by(table.columns, maintain_order=True))
    return order.to_series().to_numpy().astype(np.int64)


def _is_ordered(keys: list[np.ndarray]) -> bool:
    """Whether rows ascend by the first key, ties by the second key, and so on."""
    equal = np.ones(max(len(keys[0]) - 1, 0), dtype=bool)
    for key in keys:
        if (equal & (key[1:] < key[:-1])).any():
            return False
        equal &= key[1:] == key[:-1]
    return True


def n_tied_targets(users: np.ndarray, times: np.ndarray) -> int:
    """How many users have their last two events at the same time: which of the two is the test
    target depends on the order of ties.

    Args:
        users: user of each event, ``(N,)``, sorted by user and time.
        times: time of each event, ``(N,)``.
    """
    last = np.flatnonzero(np.r_[users[1:] != users[:-1], True][: len(users)])
    last = last[last > 0]
    return int(((users[last] == users[last - 1]) & (times[last] == times[last - 1])).sum())


def drawn_by_token(tokens: np.ndarray, share: float) -> np.ndarray:
    """Draw a share of tokens with a fixed seed: the result depends neither on their order nor on
    the seed of a run, and a smaller share is a subset of a larger one.

    Args:
        tokens: unique texts, ``(n,)``.
        share: share in [0, 1].

    Returns:
        positions of ``round(share * n)`` tokens.
    """
    order = np.argsort(tokens, kind="stable")
    return np.random.default_rng(0).permutation(order)[: round(share * len(order))]


def prefixes(users: np.ndarray) -> Prefixes:
    """Every event of a user except the first, after all events before it.

    Args:
        users: user of each event, ``(N,)``; the events of a user are adjacent and in order.
    """
    starts_user = _starts_user(users)
    first = np.flatnonzero(starts_user)
    target = np.flatnonzero(~starts_user)
    return Prefixes(target, np.repeat(first, np.diff(first, append=len(users)) - 1), target)


def among_kept(given: Prefixes, kept: np.ndarray) -> Prefixes:
    """Prefixes in terms of the kept events only; ``target`` is still a row of all events.

    Args:
        given: prefixes of all events.
        kept: ``(N,)`` bool.

    Returns:
        prefixes that keep at least one event.
    """
    row = np.cumsum(kept) - kept  # row of an event, or of the next one that is kept
    first, end = row[given.first], row[given.end]
    follows = end > first
    return Prefixes(given.target[follows], first[follows], end[follows])


def windows(rows: np.ndarray, users: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide targets into runs of at most ``length``, counted from a user's latest; only the first
    run may be shorter.

    Args:
        rows: events that are targets, ascending, ``(n,)``.
        users: user of each target, ``(n,)``.
        length: maximum number of targets in a window.

    Returns:
        first and last target of each window, as indices into ``rows``.
    """
    ends_run = np.r_[(np.diff(rows) != 1) | (np.diff(users) != 0), True]
    last = np.flatnonzero(steps_to_end(ends_run) % length == 0)
    return np.r_[0, last[:-1] + 1], last


def users_by_start(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Sort the rows of users by each user's first time; the rows of a user keep their order.

    Args:
        users: user of each event, ``(N,)``; the events of a user are adjacent and sorted by time.
        times: time of each event, ``(N,)``.

    Returns:
        ``(N,)`` row numbers.
    """
    first = np.flatnonzero(_starts_user(users))
    sizes = np.diff(first, append=len(users))
    order = np.argsort(times[first], kind="stable")
    return rows_of_runs(first[order], sizes[order])


def rows_of_runs(first: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The rows ``[first, first + size)`` of each run, one run after another.

    Args:
        first: first row of each run, ``(n,)``.
        size: size of each run, ``(n,)``.
    """
    ends = np.cumsum(size)
    return np.repeat(first - ends + size, size) + np.arange(size.sum())


def leave_one_out(users: np.ndarray, n_left_out: int) -> list[np.ndarray]:
    """Training rows, then the held-out rows for each of the last events.

    Args:
        users: user of each event, ``>= 0``, ``(N,)``, sorted by time.
        n_left_out: number of events to hold out per user; at least one stays in training.

    Returns:
        ``1 + n_left_out`` arrays, with users in the order of their first row.
    """
    order = _as_neighbours(users)
    users = users[order]
    to_end = steps_to_end(np.r_[users[1:] != users[:-1], True][: len(users)])
    sizes = np.diff(np.flatnonzero(to_end == 0), prepend=-1)
    left_out = np.minimum(n_left_out, np.repeat(sizes, sizes) - 1)
    parts = [order[to_end >= left_out]]
    for place in reversed(range(n_left_out)):
        parts.append(order[(to_end == place) & (left_out > place)])
    return parts


def _as_neighbours(users: np.ndarray) -> np.ndarray:
    """Rows grouped by user, with users in the order of their first row."""
    runs_of_user = np.bincount(users[_starts_user(users)])
    if runs_of_user.max(initial=0) <= 1:
        return np.arange(len(users))
    _, first, user = np.unique(users, return_index=True, return_inverse=True)
    return np.argsort(first[user], kind="stable")


def _starts_user(users: np.ndarray) -> np.ndarray:
    return np.r_[True, users[1:] != users[:-1]][: len(users)]


def cut_at_moments(times: np.ndarray, cuts: list[int]) -> list[int]:
    """Row numbers near ``cuts`` that do not separate events at the same time: these go to the later
    side.

    Args:
        times: ascending, ``(N,)``.
        cuts: row numbers in ``[0, N]``.

    Returns:
        edges of ``len(cuts) + 1`` parts, from 0 to ``N``.
    """
    moments = np.append(times, np.inf)[cuts]
    return [0, *np.searchsorted(times, moments).tolist(), len(times)]


def steps_to_end(is_end: np.ndarray) -> np.ndarray:
    """Distance of each row from the end of its run, 0 at the end itself."""
    ends = np.flatnonzero(is_end)
    return np.repeat(ends, np.diff(ends, prepend=-1)) - np.arange(len(is_end))
