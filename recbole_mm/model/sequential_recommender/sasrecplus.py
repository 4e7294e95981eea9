r"""SASRecPlus: a causal Transformer over item IDs with cross entropy at every position."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender
from recbole_mm.model.layers.bucketing import gather_positions, map_by_length
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.softmax import Scores, dot_products
from recbole_mm.model.layers.substitution import substitute
from recbole_mm.model.layers.transformer import causal_layer_at


class SASRecPlus(MultiModalRecommender):
    r"""SASRec with the loss of today's strongest baselines: every event of a history is a target,
    against all items.

    An item is represented by its ID embedding and ranked by the dot product with it. With
    ``modalities``, its adapted features are added: the simplest model of both.

    NOTE: the blocks are pre-norm, with a norm after the last, as in the authors' code and unlike
    RecBole's SASRec.
    NOTE: the padding item and items without a training interaction are not candidates in the
    softmax (``softmax: trained``).

    Reference:
        Wang-Cheng Kang and Julian McAuley. "Self-attentive sequential recommendation." ICDM 2018
        (arXiv 1808.09781); with the loss of Anton Klenitskiy and Alexey Vasilev. "Turning dross into
        gold loss: is BERT4Rec really better than SASRec?" RecSys 2023 (arXiv 2309.07602).
    """

    domain_parameters = ("item_embedding.*",)
    item_tables: ClassVar = {"item_embedding.weight": 0}
    encoder_parameters = ("position_embedding.*", "encoder.*", "output_norm.*")
    layer_stacks = ("encoder",)
    function_keys = ("n_heads", "hidden_act", "layer_norm_eps")
    trains_on_windows = True
    positions_per_group = 2048
    works_on_ids_alone = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if not self.use_item_id and not self.modalities:
            raise ValueError(
                f"{type(self).__name__} needs item IDs or features: set use_item_id: True or "
                f"modalities."
            )
        self.initializer_range = config["initializer_range"]
        self.temperature = config["temperature"]
        self.position_embedding = nn.Embedding(self.max_seq_length, self.hidden_size)
        self.encoder = nn.ModuleList(self.make_block(config) for _ in range(config["n_layers"]))
        substitute(self.encoder)
        self.output_norm = nn.LayerNorm(self.hidden_size, config["layer_norm_eps"])
        self.input_dropout = Dropout(config["hidden_dropout_prob"])
        if self.use_item_id:
            self.item_embedding = nn.Embedding(self.n_items, self.hidden_size)
        for module in (self.position_embedding, *self.children()):
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.initializer_range)

    def make_block(self, config) -> nn.Module:
        """One of the ``n_layers`` blocks."""
        return nn.TransformerEncoderLayer(
            d_model=self.hidden_size,
            nhead=config["n_heads"],
            dim_feedforward=config["inner_size"],
            dropout=config["hidden_dropout_prob"],
            activation=config["hidden_act"],
            layer_norm_eps=config["layer_norm_eps"],
            batch_first=True,
            norm_first=True,
        )

    def through_blocks(self, hidden: Tensor, blocks: Iterable[nn.Module] | None = None) -> Tensor:
        """Apply some blocks, or all, to ``(b, l, hidden_size)``; no position reads a later one."""
        mask = nn.Transformer.generate_square_subsequent_mask(
            hidden.shape[1], device=hidden.device, dtype=hidden.dtype
        )
        for block in self.encoder if blocks is None else blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        return hidden

    def through_blocks_at(self, hidden: Tensor, position: Tensor) -> Tensor:
        """:meth:`through_blocks` at one position of each row, ``(b, hidden_size)``; in evaluation,
        the last block is computed only there."""
        if self.training:
            return self.gather_indexes(self.through_blocks(hidden), position)
        *inner, last = self.encoder
        return causal_layer_at(last, self.through_blocks(hidden, inner), position)

    def embed_items(self, item_id: Tensor | None = None) -> Tensor:
        """Items as they are read and ranked: ``(n, hidden_size)``."""
        return torch.stack(list(self._parts(item_id).values())).sum(dim=0)

    def _parts(self, item_id: Tensor | None) -> dict[str, Tensor]:
        parts = {modality: self.adapt(modality, item_id) for modality in self.modalities}
        if self.use_item_id:
            parts["id"] = self.id_rows(self.item_embedding.weight, item_id)
        return parts

    def score_parts(self, seq_output: Tensor, item_id: Tensor) -> dict[str, Tensor]:
        parts = self._parts(item_id)
        return {name: seq_output @ part.T / self.temperature for name, part in parts.items()}

    def scores(self, items: Tensor) -> Scores:
        return dot_products(items / self.temperature)

    def encode(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        items = self.all_items() if items is None else items
        rows = interaction[self.ITEM_SEQ] if rows is None else rows
        lengths = interaction[self.ITEM_SEQ_LEN]

        def read_group(group: Tensor, longest: int) -> Tensor:
            hidden = self._inputs(items, rows[group, :longest])
            return self.output_norm(self.through_blocks_at(hidden, lengths[group] - 1))

        return map_by_length(read_group, self.length_groups(lengths))

    def encode_positions(
        self, interaction, items=None, rows: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        items = self.all_items() if items is None else items
        rows = interaction[self.ITEM_SEQ] if rows is None else rows
        lengths = interaction[self.ITEM_SEQ_LEN]
        groups = self.length_groups(lengths)
        inputs = [self._inputs(items, rows[index, :longest]) for index, longest in groups]
        hidden = [self.output_norm(self.through_blocks(each)) for each in inputs]
        return gather_positions(hidden, groups, lengths, self.fixed_length)

    def _inputs(self, items: Tensor, rows: Tensor) -> Tensor:
        """Inputs ``(b, l, hidden_size)`` for histories ``(b, l)`` of rows of ``items``; no position
        reads a later one, so right padding does not affect earlier positions."""
        length = rows.shape[1]
        tokens = nn.functional.embedding(rows, items) * self.hidden_size**0.5
        return self.input_dropout(tokens + self.position_embedding.weight[:length])
