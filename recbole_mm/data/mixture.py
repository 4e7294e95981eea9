r"""Mixtures: several data sets (the domains) as one pre-training set.

Users and items are prefixed with their domain (``Food:B00004W4UP``); features stay in the domains'
folders, next to that of the mixture, under the items' own tokens.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pandas.api.types import union_categoricals
from torch import Tensor

from recbole_mm.data.domains import (
    SEPARATOR,
    MixtureError,
    domains_with,
    refuse_different_features,
)
from recbole_mm.data.feature_files import feature_path
from recbole_mm.data.features import ItemFeatures, read_item_features
from recbole_mm.data.token_ids import categorical


def with_domain(tokens: pd.Series, domain: str) -> pd.Categorical:
    """Prefix tokens with the name of their domain."""
    known = categorical(tokens)
    named = [f"{domain}{SEPARATOR}{token}" for token in known.categories]
    return pd.Categorical.from_codes(known.codes, pd.Index(named, dtype=object))


def one_below_another(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate the rows of tables with the same columns; tokens stay categorical."""
    return pd.DataFrame({name: _joined([part[name] for part in parts]) for name in parts[0]})


def _joined(columns: list[pd.Series]):
    if all(isinstance(column.dtype, pd.CategoricalDtype) for column in columns):
        return union_categoricals(columns)
    return pd.concat(columns, ignore_index=True)


def without_domain(tokens: np.ndarray, domain: str) -> np.ndarray:
    """Remove the prefix of a domain from its tokens; tokens of other domains are not changed."""
    return np.array([token.removeprefix(f"{domain}{SEPARATOR}") for token in tokens.tolist()])


def domain_of_items(item_tokens, domains: list[str], origin: str = "mixture") -> Tensor:
    """Index of each item's domain ``(n_items,)``, -1 for the padding item 0.

    Raises:
        MixtureError: a token does not start with the name of a domain.
    """
    index = _domain_of_tokens(item_tokens[1:], domains, f"{origin}: item")
    return torch.from_numpy(np.concatenate([[-1], index]).astype(np.int64))


def refuse_users_without_domain(user_tokens, domains: list[str], origin: str) -> None:
    """Refuse users of a mixture that do not belong to a domain.

    Raises:
        MixtureError: a token does not start with the name of a domain.
    """
    _domain_of_tokens(user_tokens, domains, f"{origin}: user")


def _domain_of_tokens(tokens, domains: list[str], called: str) -> np.ndarray:
    names = pd.Series([str(token) for token in tokens], dtype=object).str.partition(SEPARATOR)[0]
    index = pd.Index(domains).get_indexer(names)
    if (index < 0).any():
        token = tokens[int(np.flatnonzero(index < 0)[0])]
        raise MixtureError(
            f"{called} {str(token)!r} does not begin with the name of a domain, {domains}; create the "
            "mixture again with recbole-mm mix"
        )
    return index


def read_mixture_features(
    root, domains: list[str], modality: str, item_tokens, min_coverage: float = 0.0
) -> ItemFeatures:
    """Read one modality of the domains that have it, aligned with the items of the mixture; the
    items of the other domains lack it.

    In addition to the result, a copy of the largest domain is in memory while it is read.

    Args:
        root: folder that contains the domains' folders.
        domains: their names.
        modality: its name.
        item_tokens: ``(n_items,)`` tokens with their domain, the padding first.
        min_coverage: minimum share of the items of *each* domain that must have the modality.

    Raises:
        FeatureFileError: see :func:`~recbole_mm.data.features.read_item_features`.
        MixtureError: the domains' features are of different kinds or widths.
    """
    refuse_different_features(root, domains, modality)
    domain_of_item = domain_of_items(item_tokens, domains)
    # if no domain has the modality, reading the first one fails
    having = domains_with(root, domains, modality) or domains
    values = torch.zeros(len(item_tokens), 0)
    present = torch.zeros(len(item_tokens), dtype=torch.bool)
    for domain in having:
        items = (domain_of_item == domains.index(domain)).nonzero().squeeze(1)
        tokens = [str(item_tokens[item])[len(domain) + 1 :] for item in items.tolist()]
        path = feature_path(Path(root) / domain, domain, modality)
        part = read_item_features(path, [item_tokens[0], *tokens], min_coverage)
        if domain == having[0]:
            width, dtype = part.values.shape[1], part.values.dtype
            values = torch.zeros(len(item_tokens), width, dtype=dtype)
        if part.values.shape[1] != values.shape[1]:
            raise MixtureError(
                f"{path}: width {part.values.shape[1]}, but {having[0]} has "
                f"{values.shape[1]}. Features of a mixture come from one encoder."
            )
        if part.values.dtype != values.dtype:
            values = values.to(torch.promote_types(values.dtype, part.values.dtype))
        values[items] = part.values[1:].to(values.dtype)
        present[items] = part.present[1:]
    return ItemFeatures(values, present)
