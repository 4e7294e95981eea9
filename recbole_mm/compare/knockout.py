r"""What a trained model loses when its features are taken away or mixed up, without retraining."""

import copy
from itertools import chain

import torch
from torch import nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender

ALL, SHUFFLED = "all", "shuffled"


def knockouts(model: nn.Module) -> list[str]:
    """Names of what can be tried: one modality alone, for each of several, and mixed-up features.

    A model without item features has none.
    """
    if not isinstance(model, MultiModalRecommender):
        return []
    alone = [f"{m} only" for m in model.modalities] if len(model.modalities) > 1 else []
    return [*alone, SHUFFLED]


def knocked_out(model: MultiModalRecommender, name: str) -> MultiModalRecommender:
    """The model with other features; all tensors but these are shared with it.

    Args:
        model: stays as it is.
        name: one of :func:`knockouts`: ``'<modality> only'`` takes all others from all items;
            ``'shuffled'`` gives the items their features in random order. Ids and weights stay.
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
