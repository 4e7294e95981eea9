r"""UniSRec: universal sequence representations from item texts, here from all modalities."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from recbole.model.layers import TransformerEncoder
from torch import Tensor, nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender
from recbole_mm.model.layers.augmentation import drop_items
from recbole_mm.model.layers.bucketing import gather_positions, map_by_length
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.moe import MoEAdapter
from recbole_mm.model.layers.softmax import Scores, dot_products
from recbole_mm.model.layers.substitution import substitute


class UniSRec(MultiModalRecommender):
    r"""A mixture of whitening experts adapts the features, a causal Transformer encodes the history,
    and items are ranked by their cosine with it.

    An item is the sum of its adapted modalities; each modality has its own experts. With ID, a
    learned embedding is added. With one modality this is the paper's model.

    Pre-training adds a contrastive loss between a history and an augmented view of it, with items
    or features dropped; one draw decides for the whole batch.

    NOTE: instead of dropping words of a text and encoding it again, entries of the feature vectors
    are dropped.
    NOTE: the experts' dropout and the gates' noise are drawn once per item and step, for histories
    and candidates together; the release draws them twice, and so does this model if the softmax is
    not over the table, or if it embeds the items in blocks (``items_per_block``).
    NOTE: the padding item and items without a training interaction are not candidates in the softmax
    (``softmax: trained``); in the release they are.
    NOTE: an ID without a training interaction adds nothing; in the release it adds its random
    initial embedding.
    NOTE: ``loss_positions: all`` trains on every event of a window at once instead of one target
    per example; the encoder is causal, so each position is the end of a history.
    NOTE: the in-batch softmax corrects for the popularity of the targets (``logq_correction``).

    Reference:
        Yupeng Hou et al. "Towards Universal Sequence Representation Learning for Recommender
        Systems." KDD 2022 (arXiv 2206.05941).
    """

    domain_parameters = ("item_embedding.*",)
    item_tables: ClassVar = {"item_embedding.weight": 0}
    encoder_parameters = ("position_embedding.*", "encoder.*")
    layer_stacks = ("encoder.layer",)
    function_keys = ("n_heads", "hidden_act", "layer_norm_eps")
    trains_on_windows = True
    positions_per_group = 1024
    contrasts_views = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.temperature = config["temperature"]
        self.initializer_range = config["initializer_range"]
        self.mask_repeated_targets = bool(config["mask_repeated_targets"])
        self.sequence_loss_weight = config["sequence_loss_weight"]
        self.item_drop_coefficient = config["item_drop_coefficient"]
        self.item_drop_ratio = config["item_drop_ratio"]
        self.feature_drop_ratio = config["feature_drop_ratio"]
        eps, dropout = config["layer_norm_eps"], config["hidden_dropout_prob"]
        self.position_embedding = nn.Embedding(self.max_seq_length, self.hidden_size)
        self.encoder = TransformerEncoder(
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            hidden_size=self.hidden_size,
            inner_size=config["inner_size"],
            hidden_dropout_prob=dropout,
            attn_dropout_prob=config["attn_dropout_prob"],
            hidden_act=config["hidden_act"],
            layer_norm_eps=eps,
        )
        substitute(self.encoder)
        self.input_norm = nn.LayerNorm(self.hidden_size, eps)
        self.input_dropout = Dropout(dropout)
        if self.use_item_id:
            self.item_embedding = nn.Embedding(self.n_items, self.hidden_size)
        self.apply(self._init_weights)

    def make_adapter(self, n_features: int, config) -> nn.Module:
        """See the base class: experts and their gate."""
        return MoEAdapter(
            n_features,
            self.hidden_size,
            config["n_experts"],
            config["adapter_dropout_prob"],
            config["initializer_range"],
        )

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.initializer_range)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)

    def embed_items(self, item_id: Tensor | None = None, feature_drop: float = 0.0) -> Tensor:
        """Items as they are read and, after normalization, ranked: ``(n, hidden_size)``.

        Args:
            item_id: ``(n,)``; ``None`` for the whole table.
            feature_drop: share of the feature entries to drop.
        """
        first, *others = self._parts(item_id, feature_drop).values()
        return sum(others, first)

    def _parts(self, item_id: Tensor | None, feature_drop: float = 0.0) -> dict[str, Tensor]:
        parts = {m: self.adapt(m, item_id, drop=feature_drop) for m in self.modalities}
        if self.use_item_id:
            parts["id"] = self.id_rows(self.item_embedding.weight, item_id)
        return parts

    def score_parts(self, seq_output: Tensor, item_id: Tensor) -> dict[str, Tensor]:
        parts = self._parts(item_id)
        norm = sum(parts.values()).norm(dim=-1).clamp(min=1e-12) * self.temperature
        return {name: seq_output @ part.T / norm for name, part in parts.items()}

    def scores(self, items: Tensor) -> Scores:
        return dot_products(F.normalize(items, dim=-1) / self.temperature)

    def encode(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        items = self.all_items() if items is None else items
        rows = interaction[self.ITEM_SEQ] if rows is None else rows
        return self.read(items, rows, interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN])

    def read(self, items: Tensor, rows: Tensor, item_seq: Tensor, length: Tensor) -> Tensor:
        """Unit vectors of the users, ``(b, hidden_size)``.

        Args:
            items: result of :meth:`embed_items`.
            rows: histories as rows of ``items``, ``(b, l)``.
            item_seq: the same as item ids.
            length: ``(b,)``.
        """

        def read_group(group: Tensor, longest: int) -> Tensor:
            output = self._read_group(items, rows, item_seq, group, longest)
            return F.normalize(self.gather_indexes(output, length[group] - 1), dim=-1)

        return map_by_length(read_group, self.length_groups(length))

    def encode_positions(self, interaction, items, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        item_seq, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        groups = self.length_groups(length)
        outputs = [
            F.normalize(self._read_group(items, rows, item_seq, *group), dim=-1) for group in groups
        ]
        return gather_positions(outputs, groups, length, self.fixed_length)

    def _read_group(
        self, items: Tensor, rows: Tensor, item_seq: Tensor, group: Tensor, longest: int
    ) -> Tensor:
        """Hidden states ``(len(group), longest, hidden_size)`` of some rows; no position reads a
        later one."""
        tokens = F.embedding(rows[group, :longest], items)
        tokens = tokens + self.position_embedding.weight[:longest]
        mask = self.get_attention_mask(item_seq[group, :longest])
        hidden = self.input_dropout(self.input_norm(tokens))
        return self.encoder(hidden, mask, output_all_encoded_layers=False)[-1]

    def calculate_loss(self, interaction) -> Tensor:
        if self.train_stage == "finetune":
            return self.next_item_loss(interaction)
        items, rows = self.embed_batch(interaction)
        seq_output = self.encode(interaction, items, rows)
        target = interaction[self.POS_ITEM_ID]
        users = self.with_profile(seq_output, interaction)
        loss = self.target_loss(users, items, target, self.history_additions(interaction))
        augmented = self.read_augmented(interaction, items, rows)
        similarity = seq_output @ augmented.T / self.temperature
        if self.mask_repeated_targets:
            repeated = (target.unsqueeze(1) == target).fill_diagonal_(False)
            similarity = similarity.masked_fill(repeated, -torch.inf)
        own = torch.arange(len(target), device=target.device)
        return loss + self.sequence_loss_weight * F.cross_entropy(similarity, own)

    def read_augmented(self, interaction, items: Tensor, rows: Tensor) -> Tensor:
        """Unit vectors of another view of each history, ``(b, hidden_size)``."""
        item_seq, length = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
        if torch.rand(()) < self.item_drop_coefficient:
            keep = torch.rand(item_seq.shape, device=item_seq.device) >= self.item_drop_ratio
            rows, _ = drop_items(rows, length, keep)
            item_seq, length = drop_items(item_seq, length, keep)
            return self.read(items, rows, item_seq, length)
        item_id, rows = torch.unique(item_seq, return_inverse=True)
        dropped = self.embed_items(item_id, self.feature_drop_ratio)
        return self.read(dropped, rows, item_seq, length)
