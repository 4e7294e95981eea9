r"""Popularity: the same list for everyone, the items with the most training events."""

from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType
from torch import Tensor


class Popularity(SequentialRecommender):
    r"""An item's score is its number of training events.

    This is RecBole's Pop with the targets and candidates of sequential models. Nothing is trained.
    """

    input_type = InputType.POINTWISE
    training_free = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.register_buffer("counts", dataset.item_counts().float())

    def predict(self, interaction) -> Tensor:
        return self.counts[interaction[self.ITEM_ID]]

    def full_sort_predict(self, interaction) -> Tensor:
        return self.counts.repeat(len(interaction), 1)
