r"""What a trained model loses when features are removed, or features or times are shuffled, without
training it again."""

import torch
from torch import nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender

ALL, SHUFFLED, TIMES_SHUFFLED = "all", "shuffled", "times shuffled"


def knockouts(model: nn.Module) -> list[str]:
    """Names of the knock-outs to try: each of several modalities alone, shuffled features, shuffled
    times.

    Empty for a model that reads neither features of items nor times.
    """
    if not isinstance(model, MultiModalRecommender):
        return []
    alone = [f"{m} only" for m in model.modalities] if len(model.modalities) > 1 else []
    shuffled = [SHUFFLED] if model.modalities else []
    return [*alone, *shuffled, *([TIMES_SHUFFLED] if model.use_time else [])]


def knocked_out(model: MultiModalRecommender, name: str) -> MultiModalRecommender:
    """A copy of the model with other features or times; it shares all other tensors with the model.

    Args:
        model: trained model, which is not changed.
        name: one of :func:`knockouts`: ``'<modality> only'`` removes all other modalities;
            ``'shuffled'`` permutes the features of the items; ``'times shuffled'`` the intervals
            between the events of a history. Ids and weights stay the same.
    """
    changed = model.sharing_copy()
    if name == TIMES_SHUFFLED:
        changed.times_shuffled = True
    elif name == SHUFFLED:
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(model.n_items - 1, generator=generator) + 1
        source = torch.cat([order.new_zeros(1), order])
        changed.permute_features(source.to(model.present(model.modalities[0]).device))
    else:
        changed.keep_modalities([name.removesuffix(" only")])
    return changed
