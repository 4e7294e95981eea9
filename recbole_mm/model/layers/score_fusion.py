r"""Fusion of an item's modalities after each has been scored against the user."""

import torch
from torch import Tensor, nn

from recbole_mm.model.layers.fusion import FUSIONS

NOT_AVAILABLE = -1e4  # as a logit: weight 0 in every dtype, with finite gradients


class ScoreFusion(nn.Module):
    r"""Modality-wise scores, weighted by themselves: :math:`s = \sum_m c_m\,w_m`.

    Args:
        mode: ``static``: :math:`w_m = 1/M`; ``dynamic_shared``: :math:`w` is the softmax over
            modalities of :math:`f c_m`, with one learned factor :math:`f`; ``dynamic_instance``:
            with one per item. Factors start at 0, so that every mode starts as the mean.
        n_modalities: ``M``; with one, ``s`` is its score and there is no factor.
        n_items: size of the item table, for ``dynamic_instance``.

    Raises:
        ValueError: for another ``mode``.
    """

    def __init__(self, mode: str, n_modalities: int, n_items: int):
        super().__init__()
        if mode not in FUSIONS:
            raise ValueError(f"item_mm_fusion must be one of {FUSIONS}, not {mode!r}.")
        self.factor = None
        if n_modalities > 1 and mode != "static":
            shape = (n_items,) if mode == "dynamic_instance" else ()
            self.factor = nn.Parameter(torch.zeros(shape))

    def forward(
        self,
        query: Tensor,
        embeddings: list[Tensor],
        scale: Tensor,
        available: Tensor | None = None,
        item_id: Tensor | None = None,
    ) -> Tensor:
        """Fused scores of ``n`` items, times a scale.

        Args:
            query: ``(b, d)``.
            embeddings: ``M`` times ``(n, d)``, what each modality is scored by; zero where the
                item lacks it.
            scale: of each item ``(n,)`` or of all ``()``, ``> 0``. It costs next to nothing here,
                and a pass over ``(b, n)`` afterwards.
            available: ``(n, M)`` bool: the others get no weight; ``None``: all.
            item_id: ``(n,)``, whose rows these are; ``None`` for the whole table.

        Returns:
            ``(b, n)``; 0 for an item without any modality.
        """
        embeddings = [e * scale.unsqueeze(-1) for e in embeddings]
        if self.factor is None:
            share = _shares(available, embeddings)
            return query @ sum(e * s for e, s in zip(embeddings, share)).T
        factor = self.factor
        if factor.dim() and item_id is not None:
            factor = factor[item_id]
        factor = factor / scale  # the weights are those of the scores before scaling
        scores = [query @ e.T for e in embeddings]
        if len(scores) == 2:
            difference = scores[0] - scores[1]
            logit = factor * difference
            if available is not None:
                first, second = _offsets(available, query.dtype)
                logit = logit + (first - second)
            return torch.addcmul(scores[1], torch.sigmoid(logit), difference)
        stacked = torch.stack(scores)
        logits = stacked * factor
        if available is not None:
            logits = logits + _offsets(available, query.dtype).unsqueeze(1)
        return (stacked * logits.softmax(dim=0)).sum(dim=0)


def _offsets(available: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to the logits of each modality's weight, ``(M, n)``."""
    return (~available).to(dtype).T * NOT_AVAILABLE


def _shares(available: Tensor | None, embeddings: list[Tensor]):
    if available is None:
        return [1 / len(embeddings)] * len(embeddings)
    share = available.to(embeddings[0].dtype)
    share = share / share.sum(dim=-1, keepdim=True).clamp(min=1)
    return share.unsqueeze(-1).unbind(-2)
