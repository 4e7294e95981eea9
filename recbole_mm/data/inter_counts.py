"""Users and items whose numbers of interactions are within intervals: k-core filtering by counts.

Pure functions of codes; ``N`` interactions, ``M`` rows in the file of users or items.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Side:
    """The users of the interactions, or the items.

    Attributes:
        codes: code of each interaction, ``>= 0``, ``(N,)``.
        within: function that tells whether numbers of interactions are allowed, ``(n,)`` to
            ``(n,)`` bool.
        least: minimum number of interactions for entries of the ``.user`` or ``.item`` file.
        own: codes of the entries of this file, -1 for those without an interaction, ``(M,)``;
            ``None`` without such a file.
    """

    codes: np.ndarray
    within: Callable[[np.ndarray], np.ndarray]
    least: float
    own: np.ndarray | None = None

    def __post_init__(self):
        self.kept_own = None if self.own is None else np.ones(len(self.own), dtype=bool)

    def banned(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of the interactions ``rows`` belongs to a user or item whose number of
        interactions is not allowed; entries of ``own`` are filtered as well."""
        codes = self.codes[rows]
        counts = np.bincount(codes, minlength=self.codes.max(initial=-1) + 1)
        banned = (counts > 0) & ~self.within(counts)
        if self.own is not None:
            counts, banned = np.append(counts, 0), np.append(banned, False)  # the place of -1
            too_few = self.kept_own & (counts[self.own] < self.least)
            banned[self.own[too_few & (self.own >= 0)]] = True
            self.kept_own &= ~(too_few | banned[self.own])
        return banned[codes]

    @property
    def n_kept(self) -> int:
        return 0 if self.kept_own is None else int(self.kept_own.sum())


def kept_by_counts(sides: list[Side], n: int) -> np.ndarray:
    """Interactions that remain after users and items whose number of interactions is not allowed
    are removed repeatedly, until there are none.

    Args:
        sides: users, items or both, with their intervals; ``kept_own`` of each is updated.
        n: number of interactions.

    Returns:
        row numbers, ascending.
    """
    rows = np.arange(n)
    while True:
        before = len(rows), [side.n_kept for side in sides]
        banned = np.zeros(len(rows), dtype=bool)
        for side in sides:
            banned |= side.banned(rows)
        rows = rows[~banned] if banned.any() else rows
        if before == (len(rows), [side.n_kept for side in sides]):
            return rows
