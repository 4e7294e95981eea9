r"""What is known of the items of a data set: frozen features, and which IDs training has met.

Symbols: ``V`` items with the padding item 0, ``M`` modalities, ``F`` features of a modality, ``d``
hidden size, ``n`` items: those of ``item_id`` ``(n,)``, or for ``None`` the whole table.
"""

from collections.abc import Callable, Collection, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.augmentation import drop_features
from recbole_mm.model.layers.feature_transform import FeatureTransform
from recbole_mm.model.layers.per_domain import PerDomain


def keep_rows(embedding: Tensor, kept: Tensor) -> Tensor:
    """Rows ``(n, d)`` where ``kept`` ``(n,)``; zero elsewhere, with a zero gradient whatever
    arrives there."""
    return embedding.masked_fill(~kept.unsqueeze(-1), 0)


def take(table: Tensor, rows: slice | Tensor) -> Tensor:
    """``table[rows]``; the gradient of picked rows is added up in half the time."""
    return table[rows] if isinstance(rows, slice) else table.index_select(0, rows)


class ItemTable(nn.Module):
    """Items: their features by modality, which of them have these, and which IDs are trained.

    All of it is in buffers that are not part of a checkpoint, but for the transforms: when others
    are loaded, the features are projected again.

    Args:
        features: of each modality, leading one first: values ``(V, F)`` in any floating dtype, and
            whether an item has them, ``(V,)`` bool.
        trained: whether an item has a training interaction, ``(V,)`` bool.
        transforms: of the modalities whose features are projected first.
        domain: of a mixture, the index of each item's domain ``(V,)``, for what is
            :class:`~recbole_mm.model.layers.per_domain.PerDomain`; ``None``: nothing is.

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
        """Frozen features ``(n, F)``, in the dtype that they came in."""
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
        """What a module makes of some items, of each one that of its domain if there are several.

        Args:
            module: of all items, or :class:`~recbole_mm.model.layers.per_domain.PerDomain`.
            item_id: see the module.
            inputs: of the module, ``(n, ...)`` each.
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
            adapter: the map of this modality, ``(n, F)`` to ``(n, d)``.
            item_id: see the module.
            mask: give 0 for items without the modality, instead of what the adapter makes of 0.
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
        """Whether training has met the IDs, ``(n,)`` bool; ``None`` when it has met all."""
        return None if self.all_trained else _rows(self.trained, item_id)

    def unknown(self, by_id: bool) -> Tensor:
        """Items of which nothing is known, ``(V,)`` bool: without any modality and, if IDs count,
        without a training interaction. The padding item is not one of them."""
        unknown = torch.ones_like(self.trained)
        for modality in self.modalities:
            unknown &= ~self.present(modality)
        if by_id:
            unknown &= ~self.trained
        unknown[0] = False
        return unknown

    def keep_modalities(self, modalities: Collection[str]) -> None:
        """From now on no item has another modality than these.

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
        """From now on item ``i`` has the features of item ``source[i]``, of every modality.

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
        """Add items without a training interaction, behind the others.

        Args:
            features: of each modality, values ``(n, F)`` before its transform, and whether an item has
                them, ``(n,)`` bool.

        Raises:
            ValueError: other modalities than those of the table.
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
        item_id: see the module.
        trained: ``(n,)`` bool, the other rows are zero; ``None``: all count.
        sparse: the gradient of the table is a sparse tensor that has these rows alone.

    Returns:
        ``(n, d)``
    """
    rows = table if item_id is None else F.embedding(item_id, table, sparse=sparse)
    return rows if trained is None else keep_rows(rows, trained)


def _rows(table: Tensor, item_id: Tensor | None) -> Tensor:
    return table if item_id is None else table[item_id]
