"""Ids of tokens: 1 for the token that occurs first, 0 for padding and for a missing token."""

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import pandas as pd

PADDING = "[PAD]"


def numbered(columns: list[pd.Categorical]) -> tuple[list[np.ndarray], np.ndarray]:
    """Number the tokens of columns that share their ids.

    Args:
        columns: columns of tokens or missing values.

    Returns:
        ids of each column, int64; tokens by id, padding first.
    """
    joined = columns[0] if len(columns) == 1 else pd.api.types.union_categoricals(columns)
    ids, found = _by_occurrence(joined)
    tokens = np.array([PADDING, *found])
    ends = np.cumsum([len(column) for column in columns])[:-1]
    return np.split(ids + 1, ends), tokens


def _by_occurrence(tokens: pd.Categorical) -> tuple[np.ndarray, list[str]]:
    """Number tokens from 0 as they occur, -1 for a missing one; also return the tokens by
    number."""
    codes = tokens.codes
    latest = np.maximum.accumulate(codes)
    if len(latest) and latest[0] <= 0 and latest[-1] == len(tokens.categories) - 1:
        n_steps = np.count_nonzero(latest[1:] != latest[:-1])
        if n_steps == int(latest[-1]) - int(latest[0]):  # each step is 1
            return codes.astype(np.int64), tokens.categories.tolist()
    numbers, found = pd.factorize(tokens)
    return numbers, found.categories[found.codes].tolist()


def categorical(tokens) -> pd.Categorical:
    """A column of tokens, categorical or not, as a categorical of objects."""
    if isinstance(getattr(tokens, "dtype", None), pd.CategoricalDtype):
        return pd.Categorical(tokens)
    codes, found = pd.factorize(np.asarray(tokens, dtype=object))
    return pd.Categorical.from_codes(codes, pd.Index(found, dtype=object))


class IdOfToken(Mapping):
    """The id of each token; the table is created on first use.

    Args:
        tokens: tokens by id.
    """

    def __init__(self, tokens: np.ndarray):
        self.tokens = tokens

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens.tolist())}

    def __getitem__(self, token: str) -> int:
        return self._ids[token]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)
