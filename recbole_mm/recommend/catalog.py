"""The items that a model ranks, and the stand-in for a data set that its constructor reads."""

import logging
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.data.feature_files import (
    describe_features,
    read_feature_space,
)
from recbole_mm.data.features import ItemFeatures
from recbole_mm.data.mixture import domain_of_items
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError

SHOWN = 3
logger = logging.getLogger(__name__)


class CatalogError(UserError):
    """Items that are not in the catalog, or that do not fit it."""


class Picture(NamedTuple):
    """The picture of an item.

    Attributes:
        path: path of the file.
        name: path relative to the folder of all pictures.
    """

    path: str
    name: str


class Catalog(NamedTuple):
    """Items in the order of their ids; row 0 is the padding item.

    Attributes:
        tokens: external ids, ``(n_items,)`` strings.
        features: features of every modality of the model, in its order.
        counts: training interactions of each item, ``(n_items,)`` int64.
        popularity: interactions of each item in the whole data set, ``(n_items,)`` int64.
        info: how the features of a modality were made, see
            :func:`~recbole_mm.data.feature_files.describe_features`.
        spaces: arrays that put further items into the space of a modality of the embedded
            extractor, see :class:`recbole_mm.data.extractor.Space`.
        offered: whether an item may be recommended, ``(n_items,)`` bool.
        titles: titles, ``(n_items,)`` strings or null; ``None``: not read.
        pictures: picture paths of added items, ``(n_items,)`` strings or null; ``None``: none was
            added.
        picture_names: paths of the items' pictures relative to the folder of all pictures,
            ``(n_items,)`` strings or null; ``None``: not read.
    """

    tokens: pl.Series
    features: dict[str, ItemFeatures]
    counts: Tensor
    popularity: Tensor
    info: dict[str, dict]
    spaces: dict[str, dict[str, np.ndarray]]
    offered: Tensor
    titles: pl.Series | None = None
    pictures: pl.Series | None = None
    picture_names: pl.Series | None = None

    @classmethod
    def of_dataset(cls, train, popularity: Tensor) -> "Catalog":
        """The items of a data set.

        Args:
            train: training split, a :class:`~recbole_mm.data.dataset.MultiModalDataset`.
            popularity: interactions of each item in the whole data set, ``(n_items,)`` int64.
        """
        tokens = pl.Series([str(token) for token in train.field2id_token[train.iid_field]])
        files = {modality: train.feature_file(modality) for modality in train.features}
        info = {modality: describe_features(file) for modality, file in files.items()}
        spaces = {modality: read_feature_space(file) for modality, file in files.items()}
        offered = torch.ones(len(tokens), dtype=torch.bool)
        features, counts = dict(train.features), train.item_counts()
        return cls(tokens, features, counts, popularity, info, spaces, offered)

    def with_items(
        self,
        tokens: list[str],
        features: dict[str, ItemFeatures],
        titles: list[str | None],
        pictures: list[Picture | None],
    ) -> "Catalog":
        """The catalog with further items, which have no interaction.

        Args:
            tokens: external ids, none of them in the catalog.
            features: features of all items for every modality, the new items last.
            titles: titles of the new items, or ``None``.
            pictures: pictures of the new items, or ``None``.
        """
        n = len(tokens)
        return self._replace(
            tokens=pl.concat([self.tokens, pl.Series(tokens, dtype=pl.String)]),
            features=features,
            counts=F.pad(self.counts, (0, n)),
            popularity=F.pad(self.popularity, (0, n)),
            offered=F.pad(self.offered, (0, n), value=True),
            titles=self._longer(self.titles, titles),
            pictures=self._longer(self.pictures, [each and each.path for each in pictures]),
            picture_names=self._longer(
                self.picture_names, [each and each.name for each in pictures]
            ),
        )

    def _longer(self, before: pl.Series | None, new: list[str | None]) -> pl.Series:
        known = [None] * len(self.tokens) if before is None else before.to_list()
        return pl.Series(known + new, dtype=pl.String)

    def ids(self, tokens, what: str) -> Tensor:
        """Ids of some items, without duplicates; arguments as for :meth:`ids_in_order`.

        Raises:
            CatalogError: an item is not in the catalog.
        """
        return self.ids_in_order(sorted({str(token) for token in tokens}), what)

    def known_ids(self, tokens, what: str, strict: bool = False) -> Tensor:
        """The same of the items that are in the catalog; the others are skipped and reported.

        Args:
            tokens: external ids, any iterable.
            what: name of these items in messages.
            strict: whether an unknown item is an error.

        Raises:
            CatalogError: an item is not in the catalog, and ``strict`` is set.
        """
        found = self._found({str(token) for token in tokens})
        refusal = self._refusal(found, what)
        if refusal and strict:
            raise CatalogError(
                f"{refusal}; omit --strict (in Python strict=True) to skip such items"
            )
        if refusal:
            logger.warning(f"{refusal}; they are skipped")
        return torch.tensor(found["id"].drop_nulls().to_list(), dtype=torch.long)

    def ids_in_order(self, tokens, what: str) -> Tensor:
        """The id of each of some items.

        Args:
            tokens: external ids, any iterable.
            what: name of these items in the message.

        Raises:
            CatalogError: an item is not in the catalog.
        """
        found = self._found(tokens)
        refusal = self._refusal(found, what)
        if refusal:
            raise CatalogError(refusal)
        return torch.tensor(found["id"].to_list(), dtype=torch.long)

    def _found(self, tokens) -> pl.DataFrame:
        """Each of some items, with its id or null."""
        wanted = pl.DataFrame({"item": pl.Series([str(t) for t in tokens], dtype=pl.String)})
        own = pl.DataFrame({"item": self.tokens}).with_row_index("id")[1:]
        known = own.filter(pl.col("item").is_in(wanted["item"].unique().to_list()))
        return wanted.join(known, on="item", how="left", maintain_order="left")

    def _refusal(self, found: pl.DataFrame, what: str) -> str:
        """A message about items without id; empty if there are none."""
        unknown = found.filter(pl.col("id").is_null())["item"].unique().sort()
        if not len(unknown):
            return ""
        own = self.tokens[1:]
        return (
            f"{what}: not in the catalog of {counted(len(own), 'item', 'items')}: {len(unknown):,} of "
            f"{found['item'].n_unique():,}, e.g. {unknown[:SHOWN].to_list()}; the catalog has items like "
            f"{own[:SHOWN].to_list()}"
        )


class CatalogDataset:
    """What a model's constructor reads from a training data set, taken from a catalog.

    Args:
        catalog: items of the model.
        item_field: RecBole's name of the items' field.
        transforms: estimated transforms of the modalities whose features are projected first.
        domains: names of the domains of a mixture whose model has modules per domain; empty
            otherwise, since all else that depends on domains is only for training.

    Attributes:
        features: features as in :class:`Catalog`.
        modalities: names of the modalities.
        has_time: always True, since histories may have times.
        field2id_token: tokens of the items, as in RecBole's data set.
        domains: names of the domains.
        item_domain: index of each item's domain, ``(n_items,)``; exists only with domains.
    """

    has_time = True

    def __init__(
        self,
        catalog: Catalog,
        item_field: str,
        transforms: dict[str, nn.Module],
        domains: list[str],
    ):
        self.catalog, self.item_field, self.transforms = catalog, item_field, transforms
        self.features = catalog.features
        self.modalities = list(catalog.features)
        self.field2id_token = {item_field: catalog.tokens.to_numpy()}
        self.domains = domains
        if domains:
            self.item_domain = domain_of_items(catalog.tokens.to_list(), domains, "items")

    def num(self, field: str) -> int:
        """Number of items, including the padding item; see RecBole's data set.

        Raises:
            ValueError: the field is not that of the items.
        """
        if field != self.item_field:
            raise ValueError(f"a catalog has items only, not {field!r}")
        return len(self.catalog.tokens)

    def item_counts(self) -> Tensor:
        """Training interactions of each item, ``(n_items,)`` int64."""
        return self.catalog.counts


def requested_ids(
    catalog: Catalog, items, exclude, strict: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Ids of the items to recommend, and of those not to recommend, as far as they are requested.

    Args:
        catalog: catalog of the model.
        items: external ids of the items that may be recommended; ``None``: all.
        exclude: external ids of items that are not recommended; ``None``: none.
        strict: whether an unknown item is an error; otherwise it is skipped.

    Raises:
        CatalogError: an item is unknown and ``strict`` is set, or none of ``items`` is known.
    """
    excluded = None if exclude is None else catalog.known_ids(exclude, "exclude", strict)
    if items is None:
        return None, excluded
    allowed = catalog.known_ids(items, "items", strict)
    if not len(allowed):
        raise CatalogError("items: none of them is in the catalog; name at least one item of it")
    return allowed, excluded
