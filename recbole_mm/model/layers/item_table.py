r"""What is known about the items of a data set: frozen features, and which IDs are trained.

Symbols: ``V`` items with the padding item 0, ``M`` modalities, ``F`` features of a modality, ``d``
hidden size, ``n`` items: those of ``item_id`` ``(n,)``, or, for ``None``, the whole table.
"""

from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.augmentation import drop_features
from recbole_mm.model.layers.feature_transform import FeatureTransform
from recbole_mm.model.layers.per_domain import PerDomain


def keep_rows(embedding: Tensor, kept: Tensor) -> Tensor:
    """Rows ``(n, d)`` where ``kept`` ``(n,)``; zero elsewhere, with a zero gradient regardless of
    the incoming one."""
    return embedding.masked_fill(~kept.unsqueeze(-1), 0)


def take(table: Tensor, rows: slice | Tensor) -> Tensor:
    """``table[rows]``, whose gradient for picked rows is summed in half the time."""
    return table[rows] if isinstance(rows, slice) else table.index_select(0, rows)


class ItemTable(nn.Module):
    """Items: their features by modality, which items have these, and which IDs are trained.

    All of this is in buffers that are not part of a checkpoint, except for the transforms: when
    transforms are loaded, the features are projected again.

    Args:
        features: modality (the leading one first) -> values ``(V, F)`` in any floating dtype, and
            whether an item has them, ``(V,)`` bool.
        trained: whether an item has a training interaction, ``(V,)`` bool.
        transforms: transforms of the modalities whose features are projected first.
        domain: index of each item's domain in a mixture ``(V,)``, for modules that are
            :class:`~recbole_mm.model.layers.per_domain.PerDomain`; ``None``: there are none.

    Attributes:
        is_complete: whether every item has every modality.
        all_trained: whether every item has a training interaction.
    """

    def __init__(
        self,
        features: Mapping[str, tuple[Tensor, Tensor]],
        trained: Tensor,
        transforms: Mapping[str, FeatureTransform | PerDomain] | None = None,
        domain: Tensor | None = None,
    ):
        super().__init__()
        self.modalities = list(features)
        self.transforms = nn.ModuleDict(transforms)
        self.register_buffer("domain", domain, persistent=False)
        for modality, (values, present) in features.items():
            if modality in self.transforms:
                self.register_buffer(f"{modality}_raw", values, persistent=False)
                values = self.through(self.transforms[modality], None, values, present)
            self.register_buffer(f"{modality}_feature", values, persistent=False)
            self.register_buffer(f"{modality}_present", present, persistent=False)
        self.register_load_state_dict_post_hook(ItemTable._project_again)
        self.register_buffer("trained", trained, persistent=False)
        self.is_complete = all(bool(self.present(m)[1:].all()) for m in self.modalities)
        self.all_trained = bool(trained[1:].all())

    def feature(self, modality: str, item_id: Tensor | None = None) -> Tensor:
        """Frozen features ``(n, F)``, in their original dtype."""
        return _rows(getattr(self, f"{modality}_feature"), item_id)

    def stored(self, modality: str, item_id: Tensor | None = None) -> Tensor:
        """Features ``(n, F)`` before the transform."""
        name = "raw" if modality in self.transforms else "feature"
        return _rows(getattr(self, f"{modality}_{name}"), item_id)

    def present(self, modality: str, item_id: Tensor | None = None) -> Tensor:
        """Whether items have the modality, ``(n,)`` bool."""
        return _rows(getattr(self, f"{modality}_present"), item_id)

    def available(self, item_id: Tensor | None = None) -> Tensor:
        """Which modalities items have, ``(n, M)`` bool."""
        return torch.stack([self.present(m, item_id) for m in self.modalities], dim=-1)

    def through(self, module: nn.Module, item_id: Tensor | None, *inputs: Tensor) -> Tensor:
        """Apply a module to some items; each item goes through the module of its domain if there
        are several.

        Args:
            module: one module for all items, or
                :class:`~recbole_mm.model.layers.per_domain.PerDomain`.
            item_id: see the docstring of this file.
            inputs: inputs of the module, ``(n, ...)`` each.
        """
        if not isinstance(module, PerDomain):
            return module(*inputs)
        return module(_rows(self.domain, item_id), *inputs)

    def adapt(
        self,
        modality: str,
        adapter: nn.Module,
        item_id: Tensor | None = None,
        mask: bool = True,
        drop: float = 0.0,
    ) -> Tensor:
        """Features mapped to the width of the model.

        Args:
            modality: its name.
            adapter: map of this modality, ``(n, F)`` to ``(n, d)``.
            item_id: see the docstring of this file.
            mask: whether items without the modality get 0 instead of the adapter's output for 0.
            drop: share of the features' entries that are dropped.

        Returns:
            ``(n, d)`` in the dtype of the adapter.
        """
        dtype = next(adapter.parameters()).dtype
        feature = self.feature(modality, item_id).to(dtype)
        if drop:
            feature = drop_features(feature, drop)
        adapted = self.through(adapter, item_id, feature)
        return keep_rows(adapted, self.present(modality, item_id)) if mask else adapted

    def trained_ids(self, item_id: Tensor | None = None) -> Tensor | None:
        """Whether the IDs have a training interaction, ``(n,)`` bool; ``None`` if all have."""
        return None if self.all_trained else _rows(self.trained, item_id)

    def unknown(self, by_id: bool) -> Tensor:
        """Whether nothing is known about an item, ``(V,)`` bool: it has no modality and, if IDs
        count, no training interaction. False for the padding item."""
        unknown = torch.ones_like(self.trained)
        for modality in self.modalities:
            unknown &= ~self.present(modality)
        if by_id:
            unknown &= ~self.trained
        unknown[0] = False
        return unknown

    def keep_modalities(self, modalities: Collection[str]) -> None:
        """Remove all other modalities from all items.

        Raises:
            ValueError: the table does not have one of them.
        """
        unknown = set(modalities) - set(self.modalities)
        if unknown:
            raise ValueError(f"no modality {sorted(unknown)}; the model has {self.modalities}.")
        for modality in set(self.modalities) - set(modalities):
            self._replace(modality, torch.zeros_like)
            self.is_complete = False

    def permute_features(self, source: Tensor) -> None:
        """Give item ``i`` the features of item ``source[i]``, in every modality.

        Args:
            source: ``(V,)``, a permutation that keeps the padding item 0.
        """
        for modality in self.modalities:
            self._replace(modality, lambda table: table[source])

    def _project_again(self, _incompatible_keys) -> None:
        for modality, transform in self.transforms.items():
            raw = getattr(self, f"{modality}_raw")
            projected = self.through(transform, None, raw, self.present(modality))
            setattr(self, f"{modality}_feature", projected)

    def append(self, features: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """Append items without a training interaction.

        Args:
            features: modality -> values ``(n, F)`` before its transform, and whether an item has
                them, ``(n,)`` bool.

        Raises:
            ValueError: the modalities are not those of the table.
        """
        if set(features) != set(self.modalities) or not features:
            raise ValueError(f"features of {sorted(features)}; the table has {self.modalities}.")
        for modality, (values, present) in features.items():
            present = present.to(self.trained.device)
            if modality in self.transforms:
                self._extend(f"{modality}_raw", values)
                values = self.transforms[modality](values.to(present.device), present)
            self._extend(f"{modality}_feature", values)
            self._extend(f"{modality}_present", present)
            self.is_complete &= bool(present.all())
        self.trained = F.pad(self.trained, (0, len(present)))
        self.all_trained = False

    def _extend(self, name: str, rows: Tensor) -> None:
        table = getattr(self, name)
        setattr(self, name, torch.cat([table, rows.to(table)]))

    def _replace(self, modality: str, change: Callable[[Tensor], Tensor]) -> None:
        """Set new tensors; the old ones may be shared with another table."""
        names = ["feature", "present", *(["raw"] if modality in self.transforms else [])]
        for name in (f"{modality}_{part}" for part in names):
            setattr(self, name, change(getattr(self, name)))


def id_rows(
    table: Tensor, item_id: Tensor | None, trained: Tensor | None, sparse: bool = False
) -> Tensor:
    """Rows of a table of learned embeddings.

    Args:
        table: ``(V, d)``.
        item_id: see the docstring of this file.
        trained: ``(n,)`` bool, the other rows are zero; ``None``: all rows are returned.
        sparse: whether the gradient of the table is a sparse tensor with these rows only.

    Returns:
        ``(n, d)``
    """
    rows = table if item_id is None else F.embedding(item_id, table, sparse=sparse)
    return rows if trained is None else keep_rows(rows, trained)


def _rows(table: Tensor, item_id: Tensor | None) -> Tensor:
    return table if item_id is None else table[item_id]
