r"""TransitionGraph: transitions from item to next item, and items with similar features."""

import numpy as np
import torch
import torch.nn.functional as F
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from scipy.sparse import coo_matrix, csr_matrix
from torch import Tensor

from recbole_mm.model.layers.feature_transform import fit_transform
from recbole_mm.model.layers.sparse_rows import SparseRows

EXAMPLES_PER_BLOCK = 65_536


class TransitionGraph(SequentialRecommender):
    r"""The score of an item is the logarithm of its probability to follow the last events of the
    history, a mixture of three parts:

    - how often training events were followed by it, at most ``window`` events later;
    - how similar its features are, as a softmax of their cosines, averaged over the modalities that
      both items have;
    - ``uniform_share`` for all items equally, so that an item that never came next has a low but
      finite score; models added to this one (``A|B`` in a comparison) could not offset an infinite
      one.

    Later events of the history weigh more. With ``feature_share: 0`` there are only transitions,
    with ``1`` only nearest neighbors by features; ``feature_transform: whiten`` finds better
    neighbors. Nothing is trained.
    """

    input_type = InputType.POINTWISE
    training_free = True
    reads_features = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.decay = config["decay"]
        self.last_events = config["last_events"]
        self.temperature = config["temperature"]
        features = dataset.features if config["feature_share"] else {}
        if config["feature_share"] and not features:
            raise ValueError(
                f"feature_share {config['feature_share']} needs a feature file of data set "
                f"{config['dataset']!r}. Set feature_share: 0."
            )
        self.feature_share = config["feature_share"]
        self.uniform_share = config["uniform_share"]
        fields = (self.ITEM_SEQ, self.ITEM_SEQ_LEN, self.ITEM_ID)
        window = config["window"]
        graph = transition_probabilities(dataset, fields, self.n_items, window, self.decay)
        self.graph = SparseRows(graph)
        self.modalities = list(features)
        if features:
            units = [F.normalize(_transformed(*f, config), dim=1) for f in features.values()]
            present = torch.stack([present for _, present in features.values()], dim=1)
            self.register_buffer("unit", torch.cat(units, dim=1), persistent=False)
            self.register_buffer("present", present.float(), persistent=False)

    def predict(self, interaction) -> Tensor:
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction) -> Tensor:
        recent, weight = self._recent(interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])
        scores = (1 - self.feature_share) * self.graph(recent, weight)
        if self.modalities:
            item_id, row = torch.unique(recent, return_inverse=True)
            similar = self.similar_items(item_id)
            similar = F.embedding_bag(row, similar, per_sample_weights=weight, mode="sum")
            scores = scores + self.feature_share * similar
        return (scores * (1 - self.uniform_share) + self.uniform_share / self.n_items).log()

    def _recent(self, item_seq: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """The last events of histories and their weights, which sum to 1: ``(b, last_events)``;
        padding has weight 0."""
        age = torch.arange(self.last_events, device=item_seq.device)
        position = length.unsqueeze(1) - 1 - age
        weight = torch.where(position >= 0, self.decay ** age.float(), 0.0)
        recent = item_seq.gather(1, position.clamp(min=0))
        return recent, weight / weight.sum(dim=1, keepdim=True)

    def similar_items(self, item_id: Tensor) -> Tensor:
        """Probabilities of other items by their features, ``(n, n_items)``.

        Args:
            item_id: ``(n,)``.
        """
        total = self.unit[item_id] @ self.unit.T  # the rows of absent features are zero
        shared = self.present[item_id] @ self.present.T
        cosine = total.div_(shared.clamp(min=1)).masked_fill_(shared == 0, -1.0)
        cosine.scatter_(1, item_id.unsqueeze(1), -torch.inf)
        cosine[:, 0] = -torch.inf
        return cosine.div_(self.temperature).softmax(dim=1)


def _transformed(values: Tensor, present: Tensor, config) -> Tensor:
    """Features ``(n_items, D)`` in float32, after ``feature_transform``."""
    kind, dimension = config["feature_transform"], config["feature_dimension"]
    if not kind:
        return values.float()
    return fit_transform(values[present], kind, dimension)(values, present)


def transition_probabilities(
    dataset, fields: tuple[str, str, str], n_items: int, window: int, decay: float
) -> csr_matrix:
    """How likely an item is to follow another one in training.

    Args:
        dataset: training examples: histories with their targets.
        fields: names of the fields with the histories, their lengths and the targets.
        n_items: number of items, including the padding item.
        window: number of events before the target that count.
        decay: factor of the weight of an event for each step further back.

    Returns:
        ``(n_items, n_items)``; the row of an item contains the probabilities of the items after it.
    """
    counts = csr_matrix((n_items, n_items))
    for rows in torch.arange(len(dataset)).split(EXAMPLES_PER_BLOCK):
        batch = dataset[rows]
        item_seq, length, target = (batch[field].numpy() for field in fields)
        for distance in range(1, min(window, item_seq.shape[1]) + 1):
            long_enough = length >= distance
            before = item_seq[long_enough, length[long_enough] - distance]
            value = np.full(len(before), decay ** (distance - 1))
            pairs = (before, target[long_enough])
            counts = counts + coo_matrix((value, pairs), shape=(n_items, n_items)).tocsr()
    total = np.asarray(counts.sum(axis=1)).ravel()
    return csr_matrix(counts.multiply(1 / np.maximum(total, 1e-12)[:, None]))
