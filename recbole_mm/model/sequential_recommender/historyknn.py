r"""HistoryKNN: recommend the items that occur for the same users as the items of the history."""

import numpy as np
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from recbole_mm.model.layers.sparse_rows import SparseRows

ITEMS_PER_BLOCK = 512
NEVER_ZERO = 1e-6
"""Constant added to the denominator of the cosine, as in RecBole's ItemKNN."""


class HistoryKNN(SequentialRecommender):
    r"""The score of an item is the sum of its similarities to those items of the history that are
    among its ``k`` nearest neighbors.

    The similarity of two items is the cosine of their columns in the matrix of training events,
    ``(users, items)``. This is RecBole's ItemKNN, which scores the training events of known users;
    here the history is that of all sequential models. Nothing is trained.

    Reference:
        Fabio Aiolli. "Efficient top-N recommendation for very large scale binary rated datasets."
        RecSys 2013.
    """

    input_type = InputType.POINTWISE
    training_free = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        events = dataset.inter_matrix(form="csr")
        nearest = nearest_neighbors(events, config["k"], config["shrink"])
        self.nearest_of = SparseRows(
            nearest.T.tocsr()
        )  # the row of an item contains the items that have it as a neighbor

    def predict(self, interaction) -> Tensor:
        scores = self.full_sort_predict(interaction)
        return scores.gather(1, interaction[self.ITEM_ID].unsqueeze(1)).squeeze(1)

    def full_sort_predict(self, interaction) -> Tensor:
        item_seq = interaction[self.ITEM_SEQ]
        return self.nearest_of(item_seq, (item_seq > 0).float())


def nearest_neighbors(events: csr_matrix, k: int, shrink: float) -> csr_matrix:
    r"""The most similar other items of each item, by
    :math:`x_i^\top x_j / (\|x_i\| \|x_j\| + \text{shrink} + 10^{-6})`.

    Args:
        events: number of events of each user with each item, ``(users, items)``.
        k: maximum number of neighbors per item; of equally similar ones, the first are kept.
        shrink: ``>= 0``.

    Returns:
        ``(items, items)``; the row of an item contains the similarities of its neighbors.
    """
    events = events.astype(np.float64).tocsr()
    norms = np.sqrt(np.asarray(events.power(2).sum(axis=0)).ravel())
    columns, n_items = events.tocsc(), events.shape[1]
    blocks = [csr_matrix((0, n_items))]
    for start in range(0, n_items, ITEMS_PER_BLOCK):
        together = (columns[:, start : start + ITEMS_PER_BLOCK].T @ events).tocoo()
        item, other = together.row + start, together.col
        cosine = together.data / (norms[item] * norms[other] + shrink + NEVER_ZERO)
        others = item != other
        item, other, cosine = together.row[others], other[others], cosine[others]
        order = np.lexsort((other, -cosine, item))
        place = np.arange(len(item)) - np.searchsorted(item[order], item[order])
        kept = order[place < k]
        shape = (together.shape[0], n_items)
        blocks.append(csr_matrix((cosine[kept], (item[kept], other[kept])), shape=shape))
    return vstack(blocks, format="csr")
