r"""What a trained model loses when its features are removed or shuffled, without retraining."""

import copy
from itertools import chain

import torch
from torch import nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender

ALL, SHUFFLED = "all", "shuffled"


def knockouts(model: nn.Module) -> list[str]:
    """Names of the sets of features to try: each of several modalities alone, and shuffled features.

    Empty for a model without item features.
    """
    if not isinstance(model, MultiModalRecommender) or not model.modalities:
        return []
    alone = [f"{m} only" for m in model.modalities] if len(model.modalities) > 1 else []
    return [*alone, SHUFFLED]


def knocked_out(model: MultiModalRecommender, name: str) -> MultiModalRecommender:
    """A copy of the model with other features; it shares all other tensors with the model.

    Args:
        model: is not changed.
        name: one of :func:`knockouts`: ``'<modality> only'`` removes all other modalities;
            ``'shuffled'`` permutes the features of the items. Ids and weights stay the same.
    """
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    changed = copy.deepcopy(model, memo=shared)
    if name == SHUFFLED:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(model.n_items - 1, generator=generator) + 1
        source = torch.cat([order.new_zeros(1), order])
        changed.permute_features(source.to(model.present(model.modalities[0]).device))
    else:
        changed.keep_modalities([name.removesuffix(" only")])
    return changed
