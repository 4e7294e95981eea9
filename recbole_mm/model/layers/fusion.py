r"""Fusion of an item's modalities into one vector for the ranking."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FUSIONS = ("static", "dynamic_shared", "dynamic_instance")


class CandidateFusion(nn.Module):
    r"""Weighted sum of the normalized embeddings of an item: :math:`\sum_m w_m \, e_m / |e_m|`.

    The weights do not depend on the user, so all items are scored with one matrix product.

    Args:
        mode: ``static``: every weight is 1; ``dynamic_shared``: the softmax of one learned number
            per modality; ``dynamic_instance``: the softmax of one number per modality and item.
        n_modalities: ``M``.
        n_items: size of the item table, for ``dynamic_instance``.

    Raises:
        ValueError: unknown ``mode``.
    """

    def __init__(self, mode: str, n_modalities: int, n_items: int):
        super().__init__()
        if mode not in FUSIONS:
            raise ValueError(f"item_mm_fusion must be one of {FUSIONS}, not {mode!r}.")
        self.mode = mode
        if mode == "dynamic_shared":
            self.weight = nn.Parameter(torch.zeros(n_modalities))
        elif mode == "dynamic_instance":
            self.weight = nn.Parameter(torch.zeros(n_items, n_modalities))

    def forward(
        self, embeddings: list[Tensor], available: Tensor | None, item_id: Tensor | None = None
    ) -> Tensor:
        """Fuse the embeddings of ``n`` items.

        Args:
            embeddings: ``M`` tensors ``(n, D)``.
            available: ``(n, M)`` bool. The weights of missing modalities are given to the others,
                so that a missing modality does not lower the rank. ``None``: all are available.
            item_id: IDs of these items ``(n,)``; ``None`` for the whole table.

        Returns:
            ``(n, D)``; zero for an item without any modality.
        """
        weight = self.weights(embeddings, available, item_id)
        parts = (F.normalize(e, dim=-1) for e in embeddings)
        if weight is None:
            return sum(parts)
        return sum(w.unsqueeze(-1) * part for w, part in zip(weight.unbind(-1), parts, strict=True))

    def weights(self, embeddings, available, item_id) -> Tensor | None:
        """The weights ``(n, M)``, or ``(M,)`` if all items have the same, or ``None`` if all are 1;
        the arguments are those of :meth:`forward`."""
        if self.mode == "static":
            if available is None:
                return None
            share = available.to(embeddings[0].dtype)
            return share * (len(embeddings) / share.sum(-1, keepdim=True).clamp(min=1))
        weight = self.weight
        if self.mode == "dynamic_instance" and item_id is not None:
            weight = weight[item_id]
        if available is None:
            return weight.softmax(-1)
        # a finite mask: an item with nothing available gets finite weights and zero gradients
        weight = weight.masked_fill(~available, torch.finfo(weight.dtype).min).softmax(-1)
        return weight * available
