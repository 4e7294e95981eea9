r"""Projection of features on their principal axes, estimated once and stored with the model."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

TRANSFORMS = ("whiten", "zca", "pca")


class PrincipalAxes(NamedTuple):
    """The mean ``(F,)``, axes ``(F, F)`` and standard deviations ``(F,)`` of some rows, largest
    first."""

    mean: Tensor
    axes: Tensor
    scale: Tensor

    @property
    def varied(self) -> Tensor:
        """Whether the rows differ along an axis, ``(F,)`` bool."""
        return self.scale > self.scale[0] * 1e-5

    def whitening(self) -> Tensor:
        """The axes divided by the standard deviations, ``(F, F)``; zero where these are."""
        return torch.where(self.varied, self.axes / self.scale.where(self.varied, 1), 0)


def principal_axes(x: Tensor) -> PrincipalAxes:
    """Estimate the principal axes of rows ``(n, F)`` float32; fewer than two rows do not vary."""
    if len(x) < 2:
        x = torch.cat([x, x.mean(0, keepdim=True).nan_to_num().expand(2 - len(x), -1)])
    variance, axes = torch.linalg.eigh(torch.cov(x.T.double()).reshape(x.shape[1], x.shape[1]))
    scale = variance.flip(0).clamp(min=0).sqrt().float()
    return PrincipalAxes(x.mean(0), axes.flip(1).float(), scale)


class FeatureTransform(nn.Module):
    """Projects features on axes around a mean.

    Mean and axes are in the checkpoint: later features (new items, another data set) are projected
    on the axes of the items that the model was trained with, never on their own.

    Args:
        mean: ``(F,)``.
        axes: ``(F, D)``, scaled if the result should be scaled.
    """

    def __init__(self, mean: Tensor, axes: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, values: Tensor, present: Tensor) -> Tensor:
        """Features ``(V, F)`` in any floating dtype as ``(V, D)`` in that of the axes; absent rows are
        zero."""
        projected = self.axes.new_zeros(len(values), self.axes.shape[1])
        projected[present] = (values[present].to(self.axes.dtype) - self.mean) @ self.axes
        return projected


def fit_transform(x: Tensor, kind: str, dimension: int | None = None) -> FeatureTransform:
    r"""Estimate a transform from the present features of the items.

    Args:
        x: ``(n, F)``.
        kind: ``whiten`` scales every axis to unit variance and drops those without variance; ``zca``
            also rotates the result back, so that it has the width and the directions of ``x``;
            ``pca`` keeps the scale.
        dimension: number of axes to keep; all if ``None``.

    Raises:
        ValueError: ``kind`` is not one of :data:`TRANSFORMS`, or the rows do not differ.

    Reference:
        Jianlin Su et al. "Whitening Sentence Representations for Better Semantics and Faster
        Retrieval." arXiv 2103.15316.
    """
    if kind not in TRANSFORMS:
        raise ValueError(f"feature_transform must be one of {TRANSFORMS} or empty, not {kind!r}.")
    found = principal_axes(x.float())
    rank = int(found.varied.sum())
    if not rank:
        raise ValueError(
            f"feature_transform: {kind} needs features that differ; {len(x)} items have the same"
        )
    if kind == "pca":
        return FeatureTransform(found.mean, found.axes[:, :dimension])
    keep = min(dimension or rank, rank)
    scaled = found.whitening()[:, :keep]
    turned = scaled if kind == "whiten" else scaled @ found.axes[:, :keep].T
    return FeatureTransform(found.mean, turned)
