r"""Fusion of an item's modalities by their scores with the user."""

import torch
from torch import Tensor, nn

from recbole_mm.model.layers.fusion import FUSIONS
from recbole_mm.model.layers.products import linear
from recbole_mm.model.layers.softmax import Scores, dot_products

NOT_AVAILABLE = -1e4  # as a logit: weight 0 in every dtype, with finite gradients


class ScoreFusion(nn.Module):
    r"""Sum of the modalities' scores, weighted by the scores: :math:`s = \sum_m c_m\,w_m`.

    Args:
        mode: ``static``: :math:`w_m = 1/M`; ``dynamic_shared``: :math:`w` is the softmax over
            modalities of :math:`f c_m`, with one learned factor :math:`f`; ``dynamic_instance``:
            the same with one factor per item. Factors start at 0: every mode starts as the mean.
        n_modalities: ``M``; with one, ``s`` is its score and there is no factor.
        n_items: size of the item table, for ``dynamic_instance``.

    Raises:
        ValueError: unknown ``mode``.
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
        embeddings: list[Tensor],
        scale: Tensor,
        available: Tensor | None = None,
        item_id: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Scores:
        """Fused scores of ``n`` items, times a scale, plus the dot products with other vectors.

        Args:
            embeddings: ``M`` tensors ``(n, d)``; zero where the item lacks the modality.
            scale: one per item ``(n,)`` or one for all ``()``, ``> 0``.
            available: ``(n, M)`` bool, missing modalities have weight 0; ``None``: all are
                available.
            item_id: IDs of these items ``(n,)``; ``None`` for the whole table.
            added: ``(n, d)``; ``None``: nothing is added.

        Returns:
            Scores; an item without any modality has those of ``added`` only.
        """
        embeddings = [e * scale.unsqueeze(-1) for e in embeddings]
        factor = self._factor(scale, item_id)
        if factor is None:
            share = _shares(available, embeddings)
            mean = sum(e * s for e, s in zip(embeddings, share, strict=True))
            return dot_products(mean if added is None else mean + added)
        if len(embeddings) == 2:
            base, difference = _base_and_difference(*embeddings, available)
            base = base if added is None else base + added
            return Scores(_weigh_two, (base, difference, factor), _bounds_of_two)
        if added is None:
            added = torch.zeros_like(embeddings[0])
        tables = (added, factor, _offsets(available, embeddings), *embeddings)
        return Scores(_weigh, tables, _bounds)

    def parts(
        self,
        query: Tensor,
        embeddings: list[Tensor],
        scale: Tensor,
        available: Tensor | None = None,
        item_id: Tensor | None = None,
    ) -> Tensor:
        """What each modality adds to the scores, ``(M, b, n)``; other arguments as in
        :meth:`forward`.

        Args:
            query: users ``(b, d)``.
        """
        scores = torch.stack([query @ (e * scale.unsqueeze(-1)).T for e in embeddings])
        factor = self._factor(scale, item_id)
        if factor is None:
            shares = _shares(available, embeddings)
            return torch.stack(
                [
                    s.T * c if available is not None else s * c
                    for s, c in zip(shares, scores, strict=True)
                ]
            )
        offsets = _offsets(available, embeddings).T.unsqueeze(1)
        return scores * (scores * factor + offsets).softmax(dim=0)

    def _factor(self, scale: Tensor, item_id: Tensor | None) -> Tensor | None:
        """The factor of the scores in the weights, which are computed from the unscaled scores."""
        factor = self.factor
        if factor is None:
            return None
        if factor.dim() and item_id is not None:
            factor = factor[item_id]
        return factor / scale


def _weigh_two(query: Tensor, base: Tensor, difference: Tensor, factor: Tensor) -> Tensor:
    difference = linear(query, difference)
    return linear(query, base) + torch.sigmoid(difference * factor) * difference


def _bounds_of_two(base: Tensor, difference: Tensor, _factor: Tensor) -> Tensor:
    return torch.stack([base, base + difference])


def _base_and_difference(first: Tensor, second: Tensor, available: Tensor | None):
    """The base and difference of two modalities: the fused score is the base's score plus a
    weighted share of the difference's; an item that lacks a modality is scored by the base only."""
    if available is None:
        return second, first - second
    both = available.all(dim=-1, keepdim=True)
    base = torch.where(available[:, 1:], second, first)
    return base, torch.where(both, first - second, 0)


def _weigh(query: Tensor, added: Tensor, factor: Tensor, offsets: Tensor, *embeddings: Tensor):
    scores = torch.stack([linear(query, e) for e in embeddings])
    weights = (scores * factor + offsets.T.unsqueeze(1)).softmax(dim=0)
    return linear(query, added) + (scores * weights).sum(dim=0)


def _bounds(added: Tensor, _factor: Tensor, _offsets: Tensor, *embeddings: Tensor) -> Tensor:
    return torch.stack([added + embedding for embedding in embeddings])


def _offsets(available: Tensor | None, embeddings: list[Tensor]) -> Tensor:
    """Additions to the logits of the modalities' weights, ``(n, M)``, to exclude missing
    modalities."""
    if available is None:
        return embeddings[0].new_zeros(len(embeddings[0]), len(embeddings))
    return (~available).to(embeddings[0].dtype) * NOT_AVAILABLE


def _shares(available: Tensor | None, embeddings: list[Tensor]):
    if available is None:
        return [1 / len(embeddings)] * len(embeddings)
    share = available.to(embeddings[0].dtype)
    share = share / share.sum(dim=-1, keepdim=True).clamp(min=1)
    return share.unsqueeze(-1).unbind(-2)
