r"""Recommenders that represent items by frozen features, and optionally by learned IDs."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_mm.model.layers.feature_transform import FeatureTransform, fit_transform
from recbole_mm.model.layers.item_rows import (
    OtherItems,
    append_zeros,
    reorder,
    stored_rows,
    tables_of_items,
)
from recbole_mm.model.layers.item_table import ItemTable, id_rows
from recbole_mm.model.layers.per_domain import PerDomain
from recbole_mm.model.layers.products import Linear
from recbole_mm.tools.command_lines import shell_line
from recbole_mm.tools.errors import UserError


class ItemRecommender(SequentialRecommender):
    """Base of recommenders whose items have features: their tables, and changes to these tables.

    The features of every modality are looked up in the model: batches contain ids only.

    Attributes:
        modalities: names, in the order of the configuration; the first is the leading one.
        feature_info: recorded origin of the features, per modality.
        adapters: maps from features to ``hidden_size``, per modality, see :meth:`make_adapter`.
        use_item_id: whether items also have learned embeddings.
        item_table: features of all items, and which of their IDs are trained.
        item_tokens: external ids of the items, by internal id.
        item_counts: training interactions of each item, ``(n_items,)`` int64.
        domain_parameters: glob patterns of the parameters that belong to one data set and are not
            transferred to another.
        item_tables: names of parameters with one entry per item, and the axis of the items.
        modality_parameters: glob patterns of the parameters that do not exist with fewer
            modalities.
        sparse_id_updates: whether a step changes only the ID embeddings of the batch's items.
        mask_missing: whether missing features and untrained IDs are excluded; an item with neither
            features nor a trained ID is then never recommended.
        reads_features: always true; the data set then reads its feature files.
        works_on_ids_alone: whether the model works without any modality.
        items_per_block: number of items embedded at once if there are more than that.

    Raises:
        ValueError: no modality; incompatible settings of the transforms.
    """

    domain_parameters: tuple[str, ...] = ()
    item_tables: ClassVar[dict[str, int]] = {}
    modality_parameters: tuple[str, ...] = ("adapters.*",)
    mask_missing = True
    reads_features = True
    works_on_ids_alone = False
    n_items: int

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.hidden_size = config["hidden_size"]
        self.use_item_id = bool(config["use_item_id"])
        self.sparse_id_updates = bool(config["sparse_id_updates"])
        self.items_per_block = config["items_per_block"]
        self.item_tokens = dataset.field2id_token[self.ITEM_ID]
        self.item_counts = dataset.item_counts()
        self.modalities = list(dataset.modalities)
        self.feature_info = dict(getattr(dataset, "feature_info", {}))
        self._refuse_unusable_features(config)
        domain = self._item_domain(config, dataset)
        self.item_table = ItemTable(
            dataset.features,
            self.item_counts > 0,
            self._make_transforms(config, dataset, domain),
            domain,
        )
        self.adapters = nn.ModuleDict()
        for modality in self.modalities:
            make = partial(self.make_adapter, self.feature(modality).shape[1], config)
            by_domain = config["adapters_per_domain"] and domain is not None
            self.adapters[modality] = (
                PerDomain(make() for _ in dataset.domains) if by_domain else make()
            )

    def _refuse_unusable_features(self, config) -> None:
        if config["transform_per_domain"] and config["feature_transform"] != "zca":
            raise ValueError(
                f"transform_per_domain needs feature_transform: zca, not {config['feature_transform']}: "
                f"the axes of whiten and pca mean something else in every domain."
            )
        if self.sparse_id_updates and not self.use_item_id:
            raise ValueError("sparse_id_updates needs use_item_id: True.")
        if not self.modalities and not self.works_on_ids_alone:
            name, domains = config["dataset"], config["domains"] or []
            fix = f"name the feature files of data set {name!r} in 'modalities'"
            if config["modalities"] is None:  # all that exist
                extract = shell_line(["recbole-mm", "extract", *(domains or [name])])
                lack = "has none that all its domains have" if domains else "has no feature file"
                fix = f"data set {name!r} {lack}; `{extract}` makes them from texts and pictures"
            raise ValueError(f"{type(self).__name__} needs at least one modality: {fix}.")

    def _item_domain(self, config, dataset) -> Tensor | None:
        """The index of each item's domain, if there are adapters or transforms per domain, which
        are then not transferred."""
        of_a_domain = {
            "adapters.*": config["adapters_per_domain"],
            "item_table.transforms.*": config["transform_per_domain"],
        }
        kept = tuple(pattern for pattern, wanted in of_a_domain.items() if wanted)
        self.domain_parameters = (*self.domain_parameters, *kept)
        return dataset.item_domain if kept and dataset.domains else None

    def _make_transforms(
        self, config, dataset, domain: Tensor | None
    ) -> dict[str, FeatureTransform | PerDomain]:
        kind, dimension = config["feature_transform"], config["feature_dimension"]
        estimated = getattr(dataset, "transforms", None)  # of a catalog: never estimated again
        if not kind or estimated is not None:
            return estimated or {}

        def fitted(modality: str, values: Tensor, present: Tensor) -> FeatureTransform:
            try:
                return fit_transform(values[present], kind, dimension)
            except ValueError as error:
                raise ValueError(f"modality {modality!r}: {error}") from error

        if domain is None or not config["transform_per_domain"]:
            return {m: fitted(m, *features) for m, features in dataset.features.items()}
        transforms: dict[str, FeatureTransform | PerDomain] = {}
        for modality, (values, present) in dataset.features.items():
            parts = [present & (domain == number) for number in range(len(dataset.domains))]
            transforms[modality] = PerDomain(
                fitted(modality, values, own if own.sum() > 1 else present) for own in parts
            )
        return transforms

    def other_parameter(self) -> dict[str, Any]:
        """What a checkpoint contains in addition to the parameters: the item of each table row, and
        the number of its training interactions."""
        tokens = [str(token) for token in self.item_tokens]
        return {"item_tokens": tokens, "item_counts": self.item_counts}

    def load_state_dict(self, state_dict, strict: bool = True, assign: bool = False):
        """Like torch's method, but check the number of items.

        Raises:
            UserError: the parameters were trained with a different number of items.
        """
        for name, (_, axis) in tables_of_items(self, self.item_tables, self.n_items).items():
            stored = state_dict.get(name)
            if stored is not None and stored.shape[axis : axis + 1] != (self.n_items,):
                raise UserError(
                    f"the checkpoint was trained with other items: {name} is {list(stored.shape)} for "
                    f"them, and the data have {self.n_items - 1} items and the padding; use the data "
                    f"that it was trained with, or use_item_id: False."
                )
        loaded = super().load_state_dict(state_dict, strict=strict, assign=assign)
        self._items_changed()
        return loaded

    def load_other_parameter(self, para: dict | None) -> None:
        """Reorder the loaded item tables to match the current data.

        Args:
            para: result of :meth:`other_parameter` when the parameters were saved.

        Raises:
            UserError: the parameters were trained with other items.
        """
        stored = (para or {}).get("item_tokens")
        own = [str(token) for token in self.item_tokens]
        tables = tables_of_items(self, self.item_tables, self.n_items)
        if stored is None or stored == own or not tables:
            return
        try:
            reorder(tables, stored_rows(stored, own))
        except OtherItems as error:
            raise UserError(
                f"the checkpoint was trained with other items: {error}; use the data that it was "
                f"trained with, or use_item_id: False."
            ) from None

    def make_adapter(self, n_features: int, config) -> nn.Module:  # noqa: ARG002  UniSRec's reads it
        """The linear map of one modality, ``(n, n_features)`` to ``(n, hidden_size)``."""
        return Linear(n_features, self.hidden_size)

    def feature(self, modality: str) -> Tensor:
        """Frozen features ``(n_items, F)``, in the dtype of the file."""
        return self.item_table.feature(modality)

    def present(self, modality: str) -> Tensor:
        """Whether an item has the modality, ``(n_items,)`` bool."""
        return self.item_table.present(modality)

    @property
    def trained(self) -> Tensor:
        """Whether an item has a training interaction, ``(n_items,)`` bool."""
        return self.item_table.trained

    def adapt(
        self, modality: str, item_id: Tensor | None = None, mask: bool = True, drop: float = 0.0
    ) -> Tensor:
        """Adapted features of some items, or of all.

        Args:
            modality: its name.
            item_id: ``(n,)``; ``None`` for the whole table.
            mask: whether items without the modality get 0 instead of the adapter's bias.
            drop: share of the features' entries that are dropped.

        Returns:
            ``(n, hidden_size)``
        """
        return self.item_table.adapt(modality, self.adapters[modality], item_id, mask, drop)

    def id_available(self, item_id: Tensor | None = None) -> Tensor | None:
        """Whether the IDs of some items, or of all, are trained: ``(n,)`` bool; ``None`` if there
        is nothing to exclude."""
        uses_some = self.use_item_id and self.mask_missing
        return self.item_table.trained_ids(item_id) if uses_some else None

    def id_rows(self, table: Tensor, item_id: Tensor | None = None) -> Tensor:
        """Rows of an ID table for some items, or all; zero where :meth:`id_available` is false."""
        return id_rows(table, item_id, self.id_available(item_id), self.has_sparse_gradients)

    def id_tables(self) -> list[nn.Parameter]:
        """The learned embeddings of the items, ``(n_items, hidden_size)`` each."""
        return [
            parameter
            for name, parameter in self.named_parameters()
            if name.startswith(("item_embedding.", "item_embeddings."))
        ]

    @property
    def has_many_items(self) -> bool:
        """Whether there are so many items that they are embedded in blocks."""
        return 0 < self.items_per_block < self.n_items

    @property
    def has_sparse_gradients(self) -> bool:
        """Whether rows picked from a table of item IDs have a sparse gradient, which takes no
        memory for the other rows."""
        return self.sparse_id_updates

    def keep_modalities(self, modalities: Collection[str]) -> None:
        """Remove all other modalities from the items, without retraining.

        Raises:
            ValueError: the model does not have one of them.
        """
        self.item_table.keep_modalities(modalities)
        self._items_changed()

    def permute_features(self, source: Tensor) -> None:
        """Give item ``i`` the features of item ``source[i]``, in every modality.

        Args:
            source: ``(n_items,)``, a permutation that keeps the padding item 0.
        """
        self.item_table.permute_features(source)
        self._items_changed()

    def append_items(
        self, tokens: Sequence[str], features: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        """Add items to the ranking by their features, as items without a training interaction.

        Their entries in parameters, such as ID embeddings, are zero.

        Args:
            tokens: external ids, ``n``.
            features: modality -> values ``(n, F)`` before its transform, and whether an item has
                them, ``(n,)`` bool.

        Raises:
            ValueError: the modalities are not those of the model.
            UserError: the model has adapters or transforms of several domains.
        """
        if self.item_table.domain is not None:
            raise UserError(
                "further items belong to no domain of a model that was trained with "
                "adapters_per_domain or transform_per_domain; fine-tune it on one data set first."
            )
        self.item_table.append(features)
        append_zeros(self, tables_of_items(self, self.item_tables, self.n_items), len(tokens))
        self.item_tokens = [*self.item_tokens, *tokens]
        self.item_counts = nn.functional.pad(self.item_counts, (0, len(tokens)))
        self.n_items = len(self.item_tokens)
        self._items_changed()

    def _items_changed(self) -> None:
        """Called after a change of the table: results computed from its items are out of date."""

    def never_recommended(self) -> Tensor:
        """Items without any modality and without a trained ID, except the padding item,
        ``(n_items,)`` bool; none without ``mask_missing``."""
        unknown = self.item_table.unknown(by_id=self.use_item_id)
        return unknown if self.mask_missing else torch.zeros_like(unknown)
