"""The items that a model ranks, and the stand-in for a data set that its constructor reads."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recbole_mm.data.features import ItemFeatures
from recbole_mm.tools.errors import UserError

SHOWN = 3


class CatalogError(UserError):
    """Items that the catalog does not have, or that do not fit it."""


class Catalog(NamedTuple):
    """Items in the order of their ids; row 0 is the padding item.

    Attributes:
        tokens: outside ids, ``(n_items,)`` str.
        features: of every modality of the model, in its order.
        counts: training interactions, ``(n_items,)`` int64.
    """

    tokens: np.ndarray
    features: dict[str, ItemFeatures]
    counts: Tensor

    @classmethod
    def of_dataset(cls, train) -> "Catalog":
        """The items of a data set.

        Args:
            train: its training split, a :class:`~recbole_mm.data.dataset.MultiModalDataset`.
        """
        tokens = np.asarray(train.field2id_token[train.iid_field]).astype(str)
        return cls(tokens, dict(train.features), train.item_counts())

    def ids(self, tokens, what: str) -> Tensor:
        """Ids of some items, without duplicates.

        Args:
            tokens: outside ids, any iterable.
            what: names them in the message.

        Raises:
            CatalogError: an item is not in the catalog.
        """
        wanted = np.unique(np.asarray([str(token) for token in tokens], dtype=str))
        order = np.argsort(self.tokens[1:], kind="stable")
        place = np.searchsorted(self.tokens[1:], wanted, sorter=order).clip(max=len(order) - 1)
        ids = order[place] + 1
        unknown = wanted[self.tokens[ids] != wanted]
        if len(unknown):
            raise CatalogError(
                f"{what}: {len(unknown)} of {len(wanted)} items are not in the catalog of "
                f"{len(self.tokens) - 1} items, e.g. {unknown[:SHOWN].tolist()}; the catalog has "
                f"items like {self.tokens[1 : SHOWN + 1].tolist()}"
            )
        return torch.from_numpy(ids)


class CatalogDataset:
    """What a model's constructor reads of a training data set, from a catalog.

    Args:
        catalog: the items.
        item_field: RecBole's name of the items' field.

    Attributes:
        features: see :class:`Catalog`.
        modalities: their names.
        has_time: True: histories may have times.
        domains: empty; what depends on domains is for training.
    """

    has_time = True
    domains: tuple = ()

    def __init__(self, catalog: Catalog, item_field: str):
        self.catalog, self.item_field = catalog, item_field
        self.features = catalog.features
        self.modalities = list(catalog.features)

    def num(self, field: str) -> int:
        """Number of items, the padding item included; see RecBole's data set.

        Raises:
            ValueError: for another field than the items'.
        """
        if field != self.item_field:
            raise ValueError(f"a catalog has items only, not {field!r}")
        return len(self.catalog.tokens)

    def item_counts(self) -> Tensor:
        """Training interactions of each item, ``(n_items,)`` int64."""
        return self.catalog.counts
