"""Models that score all items for a history at once: RecBole's sequential ones, and baselines
without training."""

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from torch import Tensor, nn

from recbole_mm.model.layers.softmax import Scores
from recbole_mm.tools.errors import UserError

SCORES_AT_ONCE = 1 << 24
"""Number of scores of the users in a batch: 64 MB of float32; every thread has a batch."""


class WholeScores(nn.Module):
    """Adapter that lets :class:`~recbole_mm.recommend.ranking.Ranker` use a model that has only
    ``full_sort_predict``. A user's vector is the user's scores of all items.

    Args:
        model: model on its device.
        config: configuration that it was trained with.
    """

    use_time = False

    def __init__(self, model: SequentialRecommender, config):
        super().__init__()
        self.model, self.name = model, config["model"]
        self.n_items: int = model.n_items
        self.max_seq_length: int = model.max_seq_length
        self.ITEM_SEQ, self.ITEM_SEQ_LEN = model.ITEM_SEQ, model.ITEM_SEQ_LEN
        self.ITEM_ID = model.ITEM_ID
        self.TIME = config["TIME_FIELD"]
        self.TIME_SEQ = self.TIME + config["LIST_SUFFIX"]
        self.device = torch.device(config["device"])

    @property
    def users_at_once(self) -> int:
        """Number of users whose scores are in memory at once."""
        return max(1, SCORES_AT_ONCE // self.n_items)

    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores of all items, ``(b, n_items)``."""
        return self.model.full_sort_predict(interaction).view(len(interaction), self.n_items)

    def embed_histories(self, _interaction: Interaction) -> tuple:
        """What :meth:`user_vectors` takes in addition to the batch: nothing."""
        return ()

    def user_vectors(self, interaction: Interaction) -> Tensor:
        """Scores of all items, ``(b, n_items)``; items that are never recommended have the lowest.

        Raises:
            UserError: the model reads more than a history has.
        """
        try:
            scores = self.full_sort_predict(interaction)
        except KeyError as error:
            raise UserError(
                f"{self.name} reads {error.args[0]!r} of a user, which a history does not have: it "
                f"ranks only the users of its data set (recbole-mm compare)"
            ) from error
        lowest = torch.finfo(scores.dtype).min
        return scores.masked_fill(scores == -torch.inf, lowest)

    def scores_of(self, item_id: Tensor) -> Scores:
        """The scores of some items as a function of :meth:`user_vectors`.

        Args:
            item_id: item ids, ``(n,)``.
        """
        return Scores(_columns, (item_id,))

    def screen_of(self, _item_id: Tensor) -> None:
        """``None``: there are no approximations."""

    def history_additions(self, _interaction: Interaction) -> None:
        """``None``: nothing is added, since the scores are complete."""

    def never_recommended(self) -> Tensor:
        """No item, ``(n_items,)`` bool."""
        return torch.zeros(self.n_items, dtype=torch.bool)


def _columns(scores: Tensor, item_id: Tensor) -> Tensor:
    return scores.index_select(1, item_id)
