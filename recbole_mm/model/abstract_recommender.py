r"""Base class of the multi-modal sequential recommenders."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.model.item_recommender import ItemRecommender
from recbole_mm.model.layers.bucketing import LengthGroup, group_by_length
from recbole_mm.model.layers.candidate_loss import (
    TABLE_CANDIDATES,
    BatchLoss,
    SampledLoss,
    TableLoss,
    Targets,
)
from recbole_mm.model.layers.item_blocks import in_blocks
from recbole_mm.model.layers.item_table import take
from recbole_mm.model.layers.neighbors import NeighborScores
from recbole_mm.model.layers.recomputed_softmax import RecomputedScores
from recbole_mm.model.layers.repeat import REPEATS, RepeatPropensity
from recbole_mm.model.layers.screening import Screen, is_fast
from recbole_mm.model.layers.softmax import Additions, Scores

TRAIN_STAGES = ("pretrain", "finetune")
OF_ONE_DATA_SET = ("neighbors.transforms.*",)
"""Patterns of parameters that no model transfers, in addition to its ``domain_parameters``."""
OF_SOME_STAGES = ("repeats.*",)
"""Patterns of parameters that are transferred if both models have them in the same shape."""
OF_ONE_MODALITY = ("item_table.transforms.*", "neighbors.weight.*", "neighbors.decay.*")
"""Patterns of parameters that do not exist with fewer modalities, in addition to a model's
``modality_parameters``."""
SAMPLED = ("sampled", "gbce")
SOFTMAXES = (*TABLE_CANDIDATES, "in_batch", *SAMPLED)
SOFTMAXES_BY_DOMAIN = ("trained", "full", "in_batch")


def read_choice(config, key: str, choices: tuple):
    """``config[key]``, which must be one of ``choices``.

    Raises:
        ValueError: the value is not one of ``choices``.
    """
    if config[key] not in choices:
        raise ValueError(f"{key} must be one of {choices}, not {config[key]!r}.")
    return config[key]


class MultiModalRecommender(ItemRecommender):
    """Base of recommenders that read frozen item features: their loss and their ranking.

    A subclass defines :meth:`embed_items`, :meth:`encode` and :meth:`scores`, and reads its own
    config.

    Attributes:
        train_stage: ``pretrain`` or ``finetune``.
        softmax: kind of candidates of the loss.
        candidate_loss: cross entropy over the candidates that ``softmax`` names.
        encoder_parameters: glob patterns of the sequence encoder, frozen in the transfer report.
        layer_stacks: glob patterns of lists of layers; a shallower model lacks the upper layers.
        function_keys: keys of the configuration that change how items are ranked with the same
            parameters, other than those that determine shapes.
        implied_keys: values of the function keys that a checkpoint of the authors does not record.
        use_time: whether the model reads when events happened.
        times_shuffled: whether the intervals of a history are read in another order, to measure
            what time contributes.
        trains_on_windows: whether the loss can be computed at every event of a history at once
            (``loss_positions: all``), see :meth:`encode_positions`.
        contrasts_views: whether pre-training contrasts two views of a history, up to one target.
        repeats: learned propensity to repeat items of the history, or ``None``.
        neighbors: similarity to the items of the history as part of the score, or ``None``.
        neighbors_alone: share of the training targets that are scored by the neighbors alone.
        positions_per_group: maximum number of positions that are computed together, see
            :func:`~recbole_mm.model.layers.bucketing.group_by_length`; the class attribute is the
            default on a CPU, without ``length_group_size``.
        can_be_recorded: whether a training step has no shape that depends on the data with
            ``fixed_length``; see :mod:`recbole_mm.training.cuda_graphs`.
        fixed_length: whether every history is computed at the full length, so that no shape depends
            on the data, for an exported graph and for CUDA graphs.

    Raises:
        ValueError: ``use_item_id`` in pre-training; incompatible settings of the loss.
    """

    encoder_parameters: tuple[str, ...] = ()
    layer_stacks: tuple[str, ...] = ()
    function_keys: tuple[str, ...] = ()
    implied_keys: ClassVar[dict[str, Any]] = {}
    use_time = False
    times_shuffled = False
    trains_on_windows = False
    contrasts_views = False
    positions_per_group = 0
    can_be_recorded = True
    fixed_length = False

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self._kept_in_evaluation: dict = {}
        if config["length_group_size"] is not None:
            self.positions_per_group = config["length_group_size"]
        elif self.device.type != "cpu":  # where a group takes as long as the whole batch
            self.positions_per_group = 0
        self.train_stage = read_choice(config, "train_stage", TRAIN_STAGES)
        self.softmax = read_choice(config, "softmax", SOFTMAXES)
        self.TIME_SEQ = config["TIME_FIELD"] + config["LIST_SUFFIX"]
        self.TIME = config["TIME_FIELD"]
        self._refuse_unusable(config)
        self.candidate_loss = self._make_loss(config, dataset)
        self.repeats = self._make_repeats(read_choice(config, "repeat_propensity", REPEATS))
        self.neighbors_alone = config["neighbors_alone"]
        self.neighbors = self._make_neighbors(
            bool(config["neighbor_scores"]), config["neighbor_dimension"]
        )

    def _refuse_unusable(self, config) -> None:
        if self.use_item_id and self.train_stage == "pretrain":
            raise ValueError(
                "use_item_id is on in the pretrain stage, but item IDs are not transferred. "
                "Set use_item_id: False for this stage."
            )
        windows = config["loss_positions"] == "all"
        if windows and self.contrasts_views and self.train_stage == "pretrain":
            raise ValueError(
                "loss_positions: all does not work with train_stage: pretrain, which contrasts two "
                "views of a history up to one target. Change one of them."
            )
        if self.sparse_id_updates and self.softmax in TABLE_CANDIDATES:
            raise ValueError(
                f"sparse_id_updates does not work with softmax: {self.softmax}, whose gradient has "
                f"every row. Set softmax: sampled, gbce or in_batch."
            )

    def _make_loss(self, config, dataset) -> TableLoss | BatchLoss | SampledLoss:
        same_domain = bool(config["same_domain_negatives"])
        if same_domain and self.softmax not in SOFTMAXES_BY_DOMAIN:
            raise ValueError(
                f"same_domain_negatives needs one of softmax: {', '.join(SOFTMAXES_BY_DOMAIN)}, not "
                f"{self.softmax}."
            )
        if same_domain and not dataset.domains:
            raise ValueError(
                f"same_domain_negatives needs a mixture, but {config['dataset']!r} has no domains."
            )
        domain = dataset.item_domain if same_domain else None
        if self.softmax in TABLE_CANDIDATES:
            return TableLoss(self.softmax, self.item_table.trained, domain)
        if self.softmax in SAMPLED:
            return SampledLoss(
                self.item_table.trained.nonzero().squeeze(1),
                config["n_negatives"],
                dataset.item_shares(),
                config["gbce_calibration"] if self.softmax == "gbce" else None,
            )
        return BatchLoss(
            bool(config["mask_repeated_targets"]),
            dataset.item_shares() if config["logq_correction"] else None,
            domain,
        )

    def _make_repeats(self, by: str) -> RepeatPropensity | None:
        if by == "none":
            return None
        if self.softmax == "in_batch":
            raise ValueError(
                f"repeat_propensity: {by} does not work with softmax: in_batch, whose candidates are "
                f"rarely in a history. Set softmax: trained."
            )
        return RepeatPropensity(self.max_seq_length, by)

    def _make_neighbors(self, wanted: bool, dimension: int) -> NeighborScores | None:
        if not wanted:
            return None
        if not self.modalities:
            raise ValueError("neighbor_scores needs features: name them in 'modalities'.")
        return NeighborScores(self.item_table, dimension)

    @property
    def has_sparse_gradients(self) -> bool:
        """Whether rows picked from a table of item IDs have a sparse gradient, which takes no
        memory for the other rows."""
        adds_to_dense = self.has_many_items and self.softmax in TABLE_CANDIDATES
        return self.sparse_id_updates or adds_to_dense

    def append_items(self, tokens, features) -> None:
        """See :meth:`~recbole_mm.model.item_recommender.ItemRecommender.append_items`.

        Raises:
            ValueError: the loss is over the batch or a sample and depends on the items' shares.
        """
        if self.softmax not in TABLE_CANDIDATES:
            raise ValueError(f"items cannot be added to a model with softmax: {self.softmax}.")
        super().append_items(tokens, features)
        self.candidate_loss = TableLoss(self.softmax, self.item_table.trained)

    def _items_changed(self) -> None:
        self._kept_in_evaluation = {}
        if self.neighbors is not None:
            self.neighbors.refresh(self.item_table)

    def embed_items(self, item_id: Tensor | None = None):
        """Compute what is needed once per item, for some items or for all.

        Returns:
            value that the subclass's :meth:`encode` and :meth:`scores` read.
        """
        raise NotImplementedError

    def n_targets(self, interaction) -> int:
        """Number of targets in a batch; the loss is their mean."""
        if TARGET_LIST in interaction:
            return int(interaction[self.ITEM_SEQ_LEN].sum())
        return len(interaction)

    @contextmanager
    def at_fixed_length(self) -> Iterator[None]:
        """Within the block no shape depends on the data, see ``fixed_length``."""
        before, self.fixed_length = self.fixed_length, True
        try:
            yield
        finally:
            self.fixed_length = before

    def sharing_copy(self) -> "MultiModalRecommender":
        """A copy whose tensors are those of this model, until a method gives it others."""
        shared: dict[int, Any] = {id(t): t for t in (*self.parameters(), *self.buffers())}
        return copy.deepcopy(self, {**shared, id(self._kept_in_evaluation): {}})

    def length_groups(self, lengths: Tensor) -> list[LengthGroup]:
        """Rows of a batch that are computed together.

        Args:
            lengths: history lengths, ``(b,)``.
        """
        if not self.fixed_length:
            return group_by_length(lengths, self.positions_per_group)
        everyone = torch.arange(lengths.shape[0], device=lengths.device)
        return [LengthGroup(everyone, self.max_seq_length)]

    def encode(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        """Encode users as vectors.

        Args:
            interaction: a batch.
            items: result of :meth:`embed_items`; by default for all items.
            rows: ``item_seq`` as rows of ``items``; by default the ids themselves.

        Returns:
            ``(b, hidden_size)``
        """
        raise NotImplementedError

    def encode_positions(self, interaction, items, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode users after each of their events.

        Args:
            interaction: a batch of windows, see :class:`~recbole_mm.data.examples.ExampleDataset`.
            items: see :meth:`encode`.
            rows: see :meth:`encode`.

        Returns:
            vectors ``(n, hidden_size)`` of all ``n`` events in any order, and the row and position of
            each, ``(n,)``; with ``fixed_length``, the padding is included.
        """
        raise NotImplementedError

    def with_profile(
        self, seq_output: Tensor, interaction, end: Tensor | None = None, row: Tensor | None = None
    ) -> Tensor:
        """Users as :meth:`scores_of` reads them: with ``neighbor_scores``, the profile of their
        history is appended.

        Args:
            seq_output: ``(n, hidden_size)``.
            interaction: a batch.
            end: see :meth:`history_additions`.
            row: see :meth:`history_additions`.

        Returns:
            ``(n, D)``
        """
        if self.neighbors is None:
            return seq_output
        end = interaction[self.ITEM_SEQ_LEN] if end is None else end
        profile = self.neighbors.profile(interaction[self.ITEM_SEQ], end, row)
        if self.training and self.neighbors_alone:
            alone = torch.rand(len(seq_output), 1, device=seq_output.device) < self.neighbors_alone
            seq_output = seq_output.masked_fill(alone, 0)
        return torch.cat([seq_output, profile], dim=1)

    def user_vectors(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        """:meth:`encode` followed by :meth:`with_profile`; the arguments are those of
        :meth:`encode`."""
        return self.with_profile(self.encode(interaction, items, rows), interaction)

    def scores(self, items) -> Scores:
        """The scores of embedded items as a function of the result of :meth:`encode`, the same in
        the loss and in the ranking.

        Args:
            items: result of :meth:`embed_items`.
        """
        raise NotImplementedError

    def scores_with_neighbors(self, items, item_id: slice | Tensor | None = None) -> Scores:
        """:meth:`scores` plus, with ``neighbor_scores``, the scores of the neighbors, as a function
        of :meth:`user_vectors`.

        Args:
            items: result of :meth:`embed_items` for these items.
            item_id: ``(n,)``; by default all items.
        """
        scores = self.scores(items)
        if self.neighbors is None:
            return scores
        table = self.neighbors.table
        return self.neighbors.add_to(scores, table if item_id is None else take(table, item_id))

    def score_items(self, users: Tensor, item_id: Tensor) -> Tensor:
        """Scores of some items.

        Args:
            users: see :meth:`user_vectors`, ``(b, D)``.
            item_id: ``(n,)``.

        Returns:
            ``(b, n)``
        """
        return self.scores_with_neighbors(self.embed_items(item_id), item_id)(users)

    def score_parts(self, seq_output: Tensor, item_id: Tensor) -> dict[str, Tensor]:
        """What each modality, and the ID (``id``), add to the scores of some items.

        Args:
            seq_output: ``(b, hidden_size)``.
            item_id: ``(n,)``.

        Returns:
            ``(b, n)`` by name; their sum is :meth:`score_items`.
        """
        raise NotImplementedError

    def candidate_rows(self, items, rows: slice | Tensor):
        """Select rows of the whole table as candidates, so that only their logits are computed.

        Args:
            items: result of :meth:`embed_items` for the whole table.
            rows: ids.

        Returns:
            the parts of that result that :meth:`scores` reads, for these items only. This default
            expects ``items`` to be one tensor.
        """
        return take(items, rows)

    def item_vectors(self, items) -> Tensor:
        """Items as vectors ``(n, D)`` whose cosine says how similarly the model ranks two of them.

        Args:
            items: result of :meth:`embed_items`.
        """
        return items

    def on_epoch_start(self, epoch: int) -> None:
        """Called by the trainer before each training epoch (0, 1, ...)."""

    def train(self, mode: bool = True):
        """See :class:`torch.nn.Module`; the cache of embedded items is cleared."""
        if mode:
            self._kept_in_evaluation = {}
        return super().train(mode)

    def all_items(self):
        """:meth:`embed_items` for the whole table; in evaluation, the result is kept until a
        parameter changes."""
        return self._kept("items", self._embed_all)

    def _embed_all(self):
        if not self.has_many_items:
            return self.embed_items()
        item_id = torch.arange(self.n_items, device=self.device)
        return in_blocks(self.embed_items, item_id, self.items_per_block)

    def _kept(self, name: str, compute: Callable):
        """A value that is computed once in evaluation, until a parameter changes."""
        if self.training or torch.is_grad_enabled():
            return compute()
        # changes through `.data` are not noticed
        state = tuple((p.data_ptr(), p._version) for p in self.parameters())
        if self._kept_in_evaluation.get("state") != state:
            self._kept_in_evaluation = {"state": state}
        if name not in self._kept_in_evaluation:
            self._kept_in_evaluation[name] = compute()
        return self._kept_in_evaluation[name]

    def scores_of(self, item_id: Tensor) -> Scores:
        """The scores of some items as a function of users, to rank them by.

        Args:
            item_id: ``(n,)``, ascending.
        """
        if self.has_many_items and self._are_all(item_id):
            return self._kept("scores", self._scores_of_all).block(1, self.n_items)
        if self.has_many_items:
            return in_blocks(self._scores_of_block, item_id, self.items_per_block)
        items = self.candidate_rows(self.all_items(), item_id)
        return self.scores_with_neighbors(items, item_id)

    def _scores_of_block(self, item_id: Tensor) -> Scores:
        return self.scores_with_neighbors(self.embed_items(item_id), item_id)

    def screen_of(self, item_id: Tensor) -> Screen | None:
        """A screen that finds the best items faster than computing all of :meth:`scores_of`, if
        there is one."""
        scores = self.scores_of(item_id)
        if not (scores.are_dot_products and is_fast(self.device)):
            return None
        compute = partial(Screen.from_items, scores.tables[0])
        return self._kept("screen", compute) if self._are_all(item_id) else compute()

    def _are_all(self, item_id: Tensor) -> bool:
        """Whether these are all items except the padding."""
        return len(item_id) == self.n_items - 1 and bool(item_id[0] == 1)

    def embed_histories(self, interaction):
        """Embedded items of the histories of a batch, and ``item_seq`` as rows of them; all items,
        unless there are many."""
        if self.has_many_items:
            return self._embed_those_in(interaction[self.ITEM_SEQ])
        return self.all_items(), interaction[self.ITEM_SEQ]

    def _embed_those_in(self, item_seq: Tensor):
        item_id, rows = torch.unique(item_seq, return_inverse=True)
        return self.embed_items(item_id), rows

    def embed_batch(self, interaction):
        """The items of a batch, each embedded once, and ``item_seq`` as rows of them."""
        item_seq = interaction[self.ITEM_SEQ]
        if self.softmax in TABLE_CANDIDATES and not self.has_many_items:
            return self.all_items(), item_seq
        return self._embed_those_in(item_seq)

    def history_additions(
        self, interaction, end: Tensor | None = None, row: Tensor | None = None
    ) -> Additions | None:
        """Additions to the scores of the items in the histories, by item ID.

        Args:
            interaction: a batch.
            end: number of events that count, ``(n,)``; by default the whole history.
            row: batch row of each end, ``(n,)``.
        """
        if self.repeats is None:
            return None
        item_seq = interaction[self.ITEM_SEQ]
        end = interaction[self.ITEM_SEQ_LEN] if end is None else end
        value = self.repeats(item_seq, end, row)
        return Additions(item_seq if row is None else item_seq[row], value)

    def target_loss(
        self,
        users: Tensor,
        items,
        target: Tensor,
        history: Additions | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """Cross entropy of the target over the candidates that ``softmax`` names.

        Args:
            users: see :meth:`user_vectors`, ``(b, D)``.
            items: result of :meth:`embed_batch`.
            target: ``(b,)``.
            history: see :meth:`history_additions`.
            counts: whether a row is part of the mean, ``(b,)`` bool; ``None``: all rows are.
        """
        of_table = self.softmax in TABLE_CANDIDATES
        scores_of = partial(self._candidate_scores, items) if of_table else self._scores_of_block
        return self.candidate_loss(scores_of, Targets(users, target, history, counts))

    def _candidate_scores(self, items, rows: slice | Tensor | None) -> Scores | RecomputedScores:
        """The scores of some rows of the table, the candidates of a softmax; ``None``: all rows."""
        if not self.has_many_items:
            items = items if rows is None else self.candidate_rows(items, rows)
            return self.scores_with_neighbors(items, rows)
        item_id = torch.arange(self.n_items, device=self.device)
        return RecomputedScores(
            self._scores_of_block,
            item_id if rows is None else item_id[rows],
            self.items_per_block,
            [parameter for parameter in self.parameters() if parameter.requires_grad],
        )

    def next_item_loss(self, interaction) -> Tensor:
        """:meth:`target_loss` for the users of a batch."""
        items, rows = self.embed_batch(interaction)
        if TARGET_LIST not in interaction:
            users = self.user_vectors(interaction, items, rows)
            target, history = interaction[self.POS_ITEM_ID], self.history_additions(interaction)
            return self.target_loss(users, items, target, history)
        return self.loss_of_positions(
            interaction, items, *self.encode_positions(interaction, items, rows)
        )

    def loss_of_positions(
        self, interaction, items, seq_output: Tensor, row: Tensor, position: Tensor
    ) -> Tensor:
        """:meth:`target_loss` after every event of the windows of a batch.

        Args:
            interaction: windows, with the target of each event.
            items: see :meth:`embed_batch`.
            seq_output: vectors from :meth:`encode_positions`.
            row: their batch rows, from :meth:`encode_positions`.
            position: their positions, from :meth:`encode_positions`.
        """
        target = interaction[TARGET_LIST][row, position]
        history = self.history_additions(interaction, position + 1, row)
        users = self.with_profile(seq_output, interaction, position + 1, row)
        counts = position < interaction[self.ITEM_SEQ_LEN][row] if self.fixed_length else None
        return self.target_loss(users, items, target, history, counts)

    def calculate_loss(self, interaction) -> Tensor:
        return self.next_item_loss(interaction)

    def full_sort_predict(self, interaction) -> Tensor:
        """Scores of all items, ``(b, n_items)``; column 0 is the padding item."""
        users = self.user_vectors(interaction, *self.embed_histories(interaction))
        scores = self._kept("scores", self._scores_of_all)(users)
        history = self.history_additions(interaction)
        if history is not None:
            scores = scores.scatter_add(1, history.column, history.value)
        scores[:, self.never_recommended()] = -torch.inf
        return scores

    def _scores_of_all(self) -> Scores:
        if not self.has_many_items:
            return self.scores_with_neighbors(self.all_items())
        return self.scores_of(torch.arange(self.n_items, device=self.device))

    def predict(self, interaction) -> Tensor:
        """Scores of one item per row, ``(b,)``."""
        item_id, column = torch.unique(interaction[self.ITEM_ID], return_inverse=True)
        users = self.user_vectors(interaction, *self.embed_histories(interaction))
        scores = self.score_items(users, item_id)
        scores = scores.gather(1, column.unsqueeze(1)).squeeze(1)
        history = self.history_additions(interaction)
        if history is not None:
            own = history.column == interaction[self.ITEM_ID].unsqueeze(1)
            scores = scores + (own * history.value).sum(dim=1)
        never = self.never_recommended()[interaction[self.ITEM_ID]]
        return scores.masked_fill(never, -torch.inf)
