r"""MISSRec: multi-modal, interest-aware sequence representation for recommendation."""

import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from time import perf_counter
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.data.examples import TARGET_LIST
from recbole_mm.model.abstract_recommender import MultiModalRecommender, read_choice
from recbole_mm.model.layers.augmentation import drop_items
from recbole_mm.model.layers.bucketing import LengthGroup, gather_positions, ungroup
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.interest import (
    Interests,
    dpc_knn,
    faiss_kmeans,
    first_occurrences,
    interest_regularizer,
    kmeans,
    unique_rows,
)
from recbole_mm.model.layers.item_blocks import in_blocks
from recbole_mm.model.layers.item_table import keep_rows, take
from recbole_mm.model.layers.score_fusion import ScoreFusion
from recbole_mm.model.layers.softmax import Scores
from recbole_mm.model.layers.transformer import EncoderDecoder
from recbole_mm.tools import processes

CLUSTERINGS = ("kmeans", "faiss", "dpc_knn")
SEQUENCE_FUSIONS = ("add", "contextual")
ITEM_DROP_VIEWS = ("intended", "released")
ACTIVATIONS = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu, "tanh": torch.tanh}


class EmbeddedItems(NamedTuple):
    """Items as the model reads and ranks them.

    Attributes:
        embeddings: per modality ``(n, D)``.
        id_embedding: ``(n, D)``, or ``None`` without ID.
        candidates: unit vectors that are ranked, ``(n, D)`` each.
        id_candidate: unit vector of the ID embedding if it has its own score, else ``None``.
        available: whether a modality counts, ``(n, M)`` bool, or ``None`` if all do.
        id_available: whether the ID counts, ``(n,)`` bool, or ``None`` if all do.
        item_id: ``(n,)``, or ``None`` for the whole table.
    """

    embeddings: list[Tensor]
    id_embedding: Tensor | None
    candidates: list[Tensor]
    id_candidate: Tensor | None
    available: Tensor | None
    id_available: Tensor | None
    item_id: Tensor | None


class View(NamedTuple):
    """Histories as the model reads them; with the released item drop, modalities differ in their
    items.

    Attributes:
        length: ``(b,)``.
        item_seqs: ids of each modality, ``(b, L)``.
        rows: the same items as rows of :class:`EmbeddedItems`.
        feature_drop: ``(b, L)`` bool, positions where some features of the leading modality are
            dropped.
    """

    length: Tensor
    item_seqs: list[Tensor]
    rows: list[Tensor]
    feature_drop: Tensor | None = None


class ReaderInput(NamedTuple):
    """Inputs of the transformer for a batch; stacked modalities are concatenated along the length.

    Attributes:
        length: ``(b,)``.
        interests: distinct interests of each history, ``(b, w)``, right-padded with 0; with
            ``causal``: the interests of each event that no earlier event has, else 0, ``(b, M L)``.
        count: number of interests, ``(b,)``.
        width: 0-d, largest number of interests in a row, counting padding as one.
        tokens: decoder inputs of the real positions only, ``(1 or M, n, D)``.
        token: index of the token at each position, ``(b, L)``.
        padding: positions that the decoder masks, 1 or ``M`` times ``(b, L)`` bool.
    """

    length: Tensor
    interests: Tensor
    count: Tensor
    width: Tensor
    tokens: Tensor
    token: Tensor
    padding: list[Tensor]


class MISSRec(MultiModalRecommender):
    r"""An encoder reads the interests of a history, which are clusters of item embeddings; a decoder
    reads the history and attends to the encoder. Items are ranked by the cosines of their
    modalities, weighted by these cosines.

    Interests are clustered again before every epoch (:meth:`on_epoch_start`), and for the first time
    when they are needed. Their tables and centroids are buffers.

    With ID, an item's score is the mean over its modalities and its ID,
    :math:`(c_{id} + M s) / (M + 1)`; with one modality it is the cosine with the sum of the two.

    NOTE: missing modalities are excluded from sequences, interests and candidates
    (``mask_missing``); in the release they are rows of zeros, which become the adapter's bias.
    NOTE: an ID without a training interaction is missing as well (``mask_missing``): it is read as
    zero, and its cosine is replaced by a share of :math:`s` (``untrained_id``); in the release it
    is the random initial embedding.
    NOTE: clusters come from a correct k-means; the released one is broken and not available.
    NOTE: item drop removes an item from all modalities (``item_drop_view``); the release removes it
    only from the leading one, and sometimes removes another item.
    NOTE: the padding item and items without a training interaction are not candidates in the softmax
    (``softmax: trained``), and a duplicate of a row's target is not a negative
    (``mask_repeated_targets``); in the release all are.
    NOTE: the in-batch softmax corrects for the popularity of the targets (``logq_correction``).
    NOTE: the regularizer is the released one, a length penalty, without its padding
    (``reg_counts_padding``); see :func:`~recbole_mm.model.layers.interest.interest_regularizer`.
    NOTE: without a file of word-dropped text features (``word_drop_features``), entries of the
    feature vectors are dropped instead of words.
    NOTE: for a user without any interest, or without any item that has the modality, attention
    reads zero; in the release it is NaN.
    NOTE: ``causal`` makes encoder and decoder read from left to right: an interest has the position
    of its first item, and an event reads no later interest and no later item. So every event of a
    window can be a target (``loss_positions: all``); in the release both read the whole history.
    NOTE: ``released: True`` layers ``properties/released/MISSRec.yaml`` over the defaults, which is
    the function of the authors' first release, for its weights.

    Reference:
        Jinpeng Wang et al. "MISSRec: Pre-training and Transferring Multi-modal Interest-aware
        Sequence Representation for Recommendation." ACM MM 2023 (arXiv 2308.11175).
    """

    domain_parameters = ("item_embedding.*", "interests.*")
    modality_parameters = ("adapters.*", "fusion.factor")
    item_tables: ClassVar = {"item_embedding.weight": 0, "interests.lookup": 1, "fusion.factor": 0}
    encoder_parameters = ("position_embedding.*", "transformer.*")
    layer_stacks = ("transformer.encoder.layers", "transformer.decoder.layers")
    function_keys = (
        "seq_mm_fusion", "mask_missing", "n_heads", "hidden_act", "layer_norm_eps", "causal",
    )  # fmt: skip
    implied_keys: ClassVar = {"causal": False}
    trains_on_windows = True
    positions_per_group = 1024
    can_be_recorded = False
    contrasts_views = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.mask_missing = bool(config["mask_missing"])
        self.temperature = config["temperature"]
        self.untrained_id = config["untrained_id"]
        self.reg_weight = config["reg_weight"]
        self.reg_counts_padding = bool(config["reg_counts_padding"])
        self.causal = bool(config["causal"])
        self._refuse_unusable_positions(config["loss_positions"])
        self.sequence_loss_weight = config["sequence_loss_weight"]
        self.initializer_range = config["initializer_range"]
        fusion = read_choice(config, "seq_mm_fusion", SEQUENCE_FUSIONS)
        self.stacks_modalities = fusion == "contextual"
        self.recluster_every = config["recluster_every"]
        self.clustering = _clustering(config)
        self._set_augmentation(config, dataset)
        self._add_transformer(config)
        self.fusion = ScoreFusion(config["item_mm_fusion"], len(self.modalities), self.n_items)
        if config["item_mm_fusion"] == "dynamic_instance":  # a factor per item
            self.domain_parameters = (*self.domain_parameters, "fusion.factor")
        if self.use_item_id:
            self.item_embedding = nn.Embedding(self.n_items, self.hidden_size)
        self.interests = self._make_interests(config["interest_ratio"])
        self._init_weights()

    def _refuse_unusable_positions(self, positions: str) -> None:
        if self.causal and self.reg_counts_padding:
            raise ValueError(
                "reg_counts_padding, of the release, does not work with causal: True, whose interests "
                "have the places of items. Change one of them."
            )
        if positions == "all" and not self.causal:
            raise ValueError(
                "loss_positions: all needs causal: True, otherwise an event would see the following "
                "ones and their interests. Set it, or loss_positions: last."
            )

    def _set_augmentation(self, config, dataset) -> None:
        self.item_drop_coefficient = config["item_drop_coefficient"]
        self.item_drop_ratio = config["item_drop_ratio"]
        self.feature_drop_ratio = config["feature_drop_ratio"]
        view = read_choice(config, "item_drop_view", ITEM_DROP_VIEWS)
        self.item_drop_released = view == "released"
        word_dropped = self._read_word_dropped(config, dataset)
        self.register_buffer("word_dropped", word_dropped, persistent=False)

    def _add_transformer(self, config) -> None:
        eps, dropout = config["layer_norm_eps"], config["hidden_dropout_prob"]
        self.position_embedding = nn.Embedding(self.max_seq_length, self.hidden_size)
        self.transformer = EncoderDecoder(
            self.hidden_size,
            config["n_heads"],
            config["n_layers"],
            config["inner_size"],
            dropout,
            ACTIVATIONS[read_choice(config, "hidden_act", tuple(ACTIVATIONS))],
            eps,
        )
        self.input_norm = nn.LayerNorm(self.hidden_size, eps)
        self.input_dropout = Dropout(dropout)

    def _make_interests(self, ratio: float) -> Interests:
        """``ratio`` interests per clustered vector."""
        present = self.item_table.available().T.contiguous()
        if not self.mask_missing:
            present = torch.ones_like(present)
            present[:, 0] = False
        n_interests = math.ceil(ratio * int(present.sum()))
        return Interests(present, n_interests, self.hidden_size)

    def _read_word_dropped(self, config, dataset) -> Tensor | None:
        """Features of the leading modality's texts with words dropped, ``(n_items, F)``; items not
        in the file keep their features."""
        name = config["word_drop_features"]
        if not name:
            return None
        if config["feature_transform"]:
            raise ValueError(
                f"word_drop_features does not work with feature_transform: "
                f"{config['feature_transform']}, which would transform each file differently. "
                f"Leave one of them empty."
            )
        whole, dropped = self.feature(self.modalities[0]), dataset.read_features(name)
        if dropped.values.shape != whole.shape:
            raise ValueError(
                f"word_drop_features: {name} has width {dropped.values.shape[1]}, "
                f"{self.modalities[0]} has width {whole.shape[1]}: both must come from the same "
                f"encoder."
            )
        if dropped.present is None:
            return dropped.values
        return torch.where(dropped.present.unsqueeze(-1), dropped.values, whole)

    def _init_weights(self) -> None:
        """Normal weights, zero biases; attention inputs and adapters keep torch's defaults."""
        blocks = [m for m in self.transformer.modules() if isinstance(m, nn.Linear)]
        tables = [m for m in self.children() if isinstance(m, nn.Embedding)]
        for module in blocks + tables:
            nn.init.normal_(module.weight, std=self.initializer_range)
        for module in blocks:
            nn.init.zeros_(module.bias)

    # interests

    def on_epoch_start(self, epoch: int) -> None:
        due = epoch > 0 and self.recluster_every > 0 and epoch % self.recluster_every == 0
        if due or not self.interests.filled:
            start = perf_counter()
            self.update_interests()
            self.logger.info(
                f"epoch {epoch} clustering [time: {perf_counter() - start:.2f}s, "
                f"interests: {len(self.interests.embeddings) - 1}]"
            )

    @torch.no_grad()
    def update_interests(self) -> None:
        """Cluster the current item embeddings; several processes share the result of the first."""
        if processes.is_first():
            self.interests.update(map(self._adapted, self.modalities), self.clustering)
        if processes.size() > 1:
            torch.distributed.broadcast(self.interests.lookup, src=0)
            torch.distributed.broadcast(self.interests.embeddings, src=0)

    def _adapted(self, modality: str, item_id: Tensor | None = None) -> Tensor:
        """Adapted features of some items, or of all, ``(n, D)``; many items are computed in
        blocks."""
        if not self.has_many_items:
            return self.adapt(modality, item_id, mask=self.mask_missing)
        if item_id is None:
            item_id = torch.arange(self.n_items, device=self.device)
        adapt = partial(self.adapt, modality, mask=self.mask_missing)
        return in_blocks(adapt, item_id, self.items_per_block)

    def keep_modalities(self, modalities: Collection[str]) -> None:
        """See the base class; interests lose the items of the other modalities."""
        super().keep_modalities(modalities)
        kept = [modality in modalities for modality in self.modalities]
        self.interests.keep_modalities(torch.tensor(kept, device=self.device))

    def permute_features(self, source: Tensor) -> None:
        """See the base class; interests are permuted with the features."""
        super().permute_features(source)
        self.interests.permute_items(source)

    def append_items(
        self, tokens: Sequence[str], features: Mapping[str, tuple[Tensor, Tensor]]
    ) -> None:
        """See the base class; new items get the interests nearest to them."""
        before = self.n_items
        super().append_items(tokens, features)
        item_id = torch.arange(before, self.n_items, device=self.device)
        with torch.no_grad():
            vectors = [self._adapted(m, item_id) for m in self.modalities]
        present = torch.stack([self.present(m)[item_id] for m in self.modalities])
        self.interests.append(
            torch.stack(vectors), present if self.mask_missing else torch.ones_like(present)
        )

    # items

    def embed_items(self, item_id: Tensor | None = None) -> EmbeddedItems:
        embeddings = [self.adapt(m, item_id, mask=self.mask_missing) for m in self.modalities]
        id_embedding, id_available = None, None
        if self.use_item_id:
            id_embedding = self.id_rows(self.item_embedding.weight, item_id)
            id_available = self.id_available(item_id)
        id_candidate = None
        if id_embedding is None:
            candidates = embeddings
        elif len(embeddings) == 1:
            candidates = [embeddings[0] + id_embedding]
        else:
            candidates, id_candidate = embeddings, F.normalize(id_embedding, dim=-1)
        return EmbeddedItems(
            embeddings=embeddings,
            id_embedding=id_embedding,
            candidates=[F.normalize(e, dim=-1) for e in candidates],
            id_candidate=id_candidate,
            available=self._available(item_id),
            id_available=id_available,
            item_id=item_id,
        )

    def _available(self, item_id: Tensor | None) -> Tensor | None:
        if not self.mask_missing or self.item_table.is_complete or len(self.modalities) == 1:
            return None
        return self.item_table.available(item_id)

    def candidate_rows(self, items: EmbeddedItems, rows: slice | Tensor) -> EmbeddedItems:
        return items._replace(
            candidates=[take(candidate, rows) for candidate in items.candidates],
            id_candidate=None if items.id_candidate is None else take(items.id_candidate, rows),
            available=None if items.available is None else items.available[rows],
            id_available=None if items.id_available is None else items.id_available[rows],
            item_id=torch.arange(self.n_items, device=items.candidates[0].device)[rows],
        )

    def item_vectors(self, items: EmbeddedItems) -> Tensor:
        ids = [] if items.id_candidate is None else [items.id_candidate]
        return torch.cat([*items.candidates, *ids], dim=-1)

    def scores(self, items: EmbeddedItems) -> Scores:
        scale, by_id = self._scales(items)
        return self.fusion(items.candidates, scale, items.available, items.item_id, by_id)

    def score_parts(self, seq_output: Tensor, item_id: Tensor) -> dict[str, Tensor]:
        items = self.embed_items(item_id)
        if items.id_embedding is not None and items.id_candidate is None:  # one modality
            parts = {self.modalities[0]: items.embeddings[0], "id": items.id_embedding}
            norm = sum(parts.values()).norm(dim=-1).clamp(min=1e-12) * self.temperature
            return {name: seq_output @ part.T / norm for name, part in parts.items()}
        scale, by_id = self._scales(items)
        fused = self.fusion.parts(seq_output, items.candidates, scale, items.available, item_id)
        parts = dict(zip(self.modalities, fused.unbind(), strict=True))
        return parts if by_id is None else {**parts, "id": seq_output @ by_id.T}

    def _scales(self, items: EmbeddedItems) -> tuple[Tensor, Tensor | None]:
        """The factor of the fused score, and vectors ``(n, D)`` whose dot products with the users
        are added to it."""
        scale = items.candidates[0].new_tensor(1 / self.temperature)
        if items.id_candidate is None:
            return scale, None
        n = scale.new_tensor(len(self.modalities))
        if items.available is not None:
            n = items.available.sum(-1).to(n.dtype)
        scale = scale / (n + 1)
        by_id = items.id_candidate * scale.unsqueeze(-1)
        # the fused score of an item without any modality is 0, regardless of the scale
        weight = n.clamp(min=1)
        if items.id_available is not None:
            weight = weight + self.untrained_id * ~items.id_available
        return scale * weight, by_id

    # users

    def encode(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        items = self.all_items() if items is None else items
        return self.read(self.view_of(interaction, rows), items)[0]

    def view_of(self, interaction, rows: Tensor | None) -> View:
        """The histories of a batch, unchanged."""
        item_seq = interaction[self.ITEM_SEQ]
        n = len(self.modalities)
        rows = item_seq if rows is None else rows
        return View(interaction[self.ITEM_SEQ_LEN], [item_seq] * n, [rows] * n)

    def encode_positions(self, interaction, items, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        view = self.view_of(interaction, rows)
        groups, users, _ = self._read(view, items, regularize=False, everywhere=True)
        return gather_positions(users, groups, view.length)

    def read(
        self, view: View, items: EmbeddedItems, regularize: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Unit vectors of the users ``(b, D)`` and the interest regularizer (0-d).

        Args:
            view: histories.
            items: result of :meth:`embed_items`.
            regularize: whether to compute the regularizer; it is ``None`` otherwise.
        """
        groups, users, regularizer = self._read(view, items, regularize, everywhere=False)
        return ungroup(users, groups), regularizer

    def _read(
        self, view: View, items: EmbeddedItems, regularize: bool, everywhere: bool
    ) -> tuple[list[LengthGroup], list[Tensor], Tensor | None]:
        """Groups of rows, the result of :meth:`_read_group` for each, and the regularizer."""
        given = self._reader_input(view, items)
        groups = self.length_groups(view.length)
        users, sums = [], []
        for group, longest in groups:
            user, memory, ids = self._read_group(given, group, longest, regularize, everywhere)
            users.append(user)
            if regularize:
                sums.append(self._summed(memory, ids))
        if not regularize:
            return groups, users, None
        summed, *padding = (ungroup(list(part), groups) for part in zip(*sums, strict=True))
        regularizer = interest_regularizer(summed, given.count, given.width, padding)
        return groups, users, regularizer

    def _reader_input(self, view: View, items: EmbeddedItems) -> ReaderInput:
        if not self.interests.filled:
            self.update_interests()
        touched = self.interests.of_items(*view.item_seqs)
        position = torch.arange(view.rows[0].shape[1], device=touched.device)
        if self.causal:
            interests = first_occurrences(touched, position.repeat(len(self.modalities)))
            count = (interests > 0).sum(dim=1)
        else:
            width = touched.shape[1] if self.fixed_length else None
            interests, count = unique_rows(touched, width)
        real = position < view.length.unsqueeze(1)
        index, token = self._computed(real)
        padding = [~real]
        if self.stacks_modalities:
            pairs = zip(self.modalities, view.item_seqs, strict=True)
            padding = [~real | ~self.present(m)[item_seq] for m, item_seq in pairs]
        return ReaderInput(
            length=view.length,
            interests=interests,
            count=count,
            width=(count + (touched == 0).any(dim=1)).max(),
            tokens=self._tokens(view, items, index),
            token=token,
            padding=padding,
        )

    def _computed(self, real: Tensor) -> tuple[Tensor, Tensor]:
        """The flat positions of a batch that get a token, and the token index of each position.

        Args:
            real: ``(b, L)`` bool.
        """
        if self.fixed_length:
            index = torch.arange(real.numel(), device=real.device)
            return index, index.view_as(real)
        token = (real.flatten().cumsum(0) - 1).clamp(min=0).view_as(real)
        return real.flatten().nonzero().squeeze(1), token

    def _read_group(
        self, given: ReaderInput, group: Tensor, longest: int, pad: bool, everywhere: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read some rows of a batch, none of which is longer than ``longest``.

        Args:
            given: inputs of the whole batch.
            group: the rows ``(g,)``.
            longest: length to which their histories are cut.
            pad: whether the encoder also computes padding, if the regularizer counts it.
            everywhere: whether users are computed after every event instead of only the last one;
                needs ``causal``.

        Returns:
            unit vectors of the users ``(g, D)``, or ``(g, longest, D)`` after every event, memory
            ``(g, w, D)`` and its interests ``(g, w)``.
        """
        ids = self._interests_of_group(given, group, longest, pad)
        token = given.token[group, :longest]
        target = torch.cat([F.embedding(token, table) for table in given.tokens], dim=1)
        mask = torch.cat([hidden[group, :longest] for hidden in given.padding], dim=1)
        of_memory, of_interests = ids == 0, ids == 0
        if self.causal:
            position = torch.arange(longest, device=ids.device)
            of_token = position.repeat(len(given.padding))
            of_interest = position.repeat(len(self.modalities))
            mask = _and_later(mask, of_token, of_token)
            of_memory = _and_later(of_interests, of_token, of_interest)
            of_interests = _and_later(of_interests, of_interest, of_interest)
        memory = self.transformer.encode(F.embedding(ids, self.interests.embeddings), of_interests)
        if everywhere:
            output = self.transformer.decode(target, mask, memory, of_memory)[:, :longest]
        else:
            last = given.length[group] - 1
            output = self.transformer.decode_at(last, target, mask, memory, of_memory)
        return F.normalize(output, dim=-1), memory, ids

    def _interests_of_group(
        self, given: ReaderInput, group: Tensor, longest: int, pad: bool
    ) -> Tensor:
        """Interests of some rows ``(g, w)``, 0 for none; see :meth:`_read_group`."""
        ids = given.interests[group]
        if self.causal:
            by_modality = ids.unflatten(1, (len(self.modalities), -1))
            return by_modality[:, :, :longest].flatten(1)
        if not self.fixed_length:
            ids = ids[:, : max(1, int(given.count[group].max()))]
        return F.pad(ids, (0, 2)) if pad and self.reg_counts_padding else ids

    def _summed(self, memory: Tensor, ids: Tensor) -> list[Tensor]:
        """The parts of a memory ``(g, w, D)`` that the regularizer reads: its sum over the
        interests and, if padding counts, two padded positions; ``(g, D)`` each."""
        summed = (memory * (ids > 0).unsqueeze(-1)).sum(dim=1)
        padding = [memory[:, -2], memory[:, -1]] if self.reg_counts_padding else []
        return [summed, *padding]

    def _tokens(self, view: View, items: EmbeddedItems, index: Tensor) -> Tensor:
        """Decoder inputs of some positions of the flattened histories, one after another."""
        parts = [
            F.embedding(rows.flatten()[index], table)
            for rows, table in zip(view.rows, items.embeddings, strict=True)
        ]
        if view.feature_drop is not None:
            where = view.feature_drop.flatten()[index].nonzero().squeeze(1)
            item_id = view.item_seqs[0].flatten()[index[where]]
            parts[0] = parts[0].index_copy(0, where, self._feature_dropped(item_id))
        shared = self.position_embedding(index % view.rows[0].shape[1])
        if items.id_embedding is not None:
            shared = shared + F.embedding(view.rows[0].flatten()[index], items.id_embedding)
        tokens = torch.stack(parts) if self.stacks_modalities else sum(parts).unsqueeze(0)
        return self.input_dropout(self.input_norm(tokens + shared))

    # losses

    def calculate_loss(self, interaction) -> Tensor:
        if TARGET_LIST in interaction:
            return self._loss_of_windows(interaction)
        items, rows = self.embed_batch(interaction)
        target = interaction[self.POS_ITEM_ID]
        regularize = self.reg_weight > 0
        view = self.view_of(interaction, rows)
        seq_output, regularizer = self.read(view, items, regularize)
        users = self.with_profile(seq_output, interaction)
        loss = self.target_loss(users, items, target, self.history_additions(interaction))
        if regularize:
            loss = loss + self.reg_weight * regularizer
        if self.train_stage == "finetune":
            return loss
        augmented, regularizer = self.read(self.augment(view), items, regularize)
        own = torch.arange(len(target), device=target.device)
        # negatives are those of this process only
        similarity = seq_output @ augmented.T / self.temperature
        loss = loss + self.sequence_loss_weight * F.cross_entropy(similarity, own)
        return loss + self.reg_weight * regularizer if regularize else loss

    def _loss_of_windows(self, interaction) -> Tensor:
        items, rows = self.embed_batch(interaction)
        view = self.view_of(interaction, rows)
        groups, outputs, regularizer = self._read(view, items, self.reg_weight > 0, everywhere=True)
        positions = gather_positions(outputs, groups, view.length)
        loss = self.loss_of_positions(interaction, items, *positions)
        return loss if regularizer is None else loss + self.reg_weight * regularizer

    def augment(self, view: View) -> View:
        """Create another view of each history of a batch, with items or features dropped.

        One draw decides for the whole batch.
        """
        drop = torch.rand(view.rows[0].shape, device=view.length.device) < self.item_drop_ratio
        if torch.rand(()) < self.item_drop_coefficient:
            return self.with_items_dropped(view, drop)
        return view._replace(feature_drop=drop)

    def with_items_dropped(self, view: View, drop: Tensor) -> View:
        """A view without the items where ``drop`` ``(b, L)`` is True; the first item is kept."""

        def dropped(sequence: Tensor) -> tuple[Tensor, Tensor]:
            return drop_items(sequence, view.length, ~drop, self.item_drop_released)

        item_seq, length = dropped(view.item_seqs[0])
        rows, _ = dropped(view.rows[0])
        if self.item_drop_released:
            return View(length, [item_seq, *view.item_seqs[1:]], [rows, *view.rows[1:]])
        n = len(self.modalities)
        return View(length, [item_seq] * n, [rows] * n)

    def _feature_dropped(self, item_id: Tensor) -> Tensor:
        """The leading modality's embeddings of items, ``(n, D)``, with some features dropped."""
        leading = self.modalities[0]
        if self.word_dropped is None:
            drop = self.feature_drop_ratio
            return self.adapt(leading, item_id, mask=self.mask_missing, drop=drop)
        adapter = self.adapters[leading]
        feature = self.word_dropped[item_id].to(next(adapter.parameters()).dtype)
        embedding = self.item_table.through(adapter, item_id, feature)
        if not self.mask_missing:
            return embedding
        return keep_rows(embedding, self.present(leading)[item_id])


def _clustering(config):
    """The clustering function of the configuration, with its settings."""
    method = read_choice(config, "interest_clustering", CLUSTERINGS)
    if method == "faiss" and find_spec("faiss") is None:
        raise ValueError("interest_clustering: faiss needs faiss: pip install faiss-cpu")
    if method == "dpc_knn":
        return partial(dpc_knn, n_neighbors=config["interest_neighbors"])
    lloyd = kmeans if method == "kmeans" else faiss_kmeans
    return partial(lloyd, max_iter=config["interest_iterations"], seed=config["seed"])


def _and_later(mask: Tensor, of_query: Tensor, of_key: Tensor) -> Tensor:
    """Extend a mask of keys ``(b, n)`` to mask, for each query, the keys of later events too:
    ``(b, q, n)``.

    Args:
        mask: ``(b, n)`` bool.
        of_query: event of each query, ``(q,)``.
        of_key: event of each key, ``(n,)``.
    """
    return mask.unsqueeze(1) | (of_key > of_query.unsqueeze(1))
