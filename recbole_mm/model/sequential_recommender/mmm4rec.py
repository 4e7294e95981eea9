r"""MMM4Rec: multi-modal Mamba for sequential recommendation."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from recbole_mm.model.abstract_recommender import MultiModalRecommender, read_choice
from recbole_mm.model.layers.backend import choose_kernels
from recbole_mm.model.layers.bucketing import gather_positions, ungroup
from recbole_mm.model.layers.dropout import Dropout
from recbole_mm.model.layers.fourier import CausalFilter, FourierFusion
from recbole_mm.model.layers.fusion import CandidateFusion
from recbole_mm.model.layers.item_table import id_rows, take
from recbole_mm.model.layers.mamba import CrossLayer, MambaSize, TiSSDLayer
from recbole_mm.model.layers.softmax import Scores, dot_products
from recbole_mm.model.layers.time import (
    LengthNorm,
    RunningNorm,
    TimeScale,
    in_other_order,
    padded_differences,
    time_intervals,
)

QUERY_TIMES = ("none", "request")
TIME_INPUTS = ("intervals", "log_intervals", "padded_differences")
TIME_INITS = ("identity", "normal")
ADAPTER_BIAS_INITS = ("normal", "zero")


class EmbeddedItems(NamedTuple):
    """Items as the model reads and ranks them: per modality ``(n, D)``, and fused ``(n, D)``."""

    embeddings: dict[str, Tensor]
    candidates: Tensor


class MMM4Rec(MultiModalRecommender):
    r"""A state space block encodes the sequence of the leading modality; the sequence of every other
    modality goes through the same block and then queries it (Cross-SSD). Step sizes can follow the
    time between events, whose signals are merged by Fourier filters.

    With one modality, its own encoding is the output. With more than two, every further modality
    has its own cross layers, and the output is the mean of their outputs.

    NOTE: intervals are in days and ``time_norm`` counts real events only (``time_input``); the
    release takes differences of padded unix seconds, which contain the target's time.
    NOTE: the time layers start as the identity (``time_init``), so that they learn; the released
    initialization leaves their output at 1e-8, where it stays.
    NOTE: without ID, an item that lacks a modality is ranked by those that it has
    (``mask_missing``); the release ranks it by the adapter's bias. With ID, both use the bias. An
    item without any modality and without a trained ID is never recommended.
    NOTE: the padding item and items without a training interaction are not candidates in the softmax
    (``softmax: trained``), and a duplicate of a row's target is not a negative
    (``mask_repeated_targets``); in the release all are.
    NOTE: ``layer_norm_eps`` is 1e-5 and the adapters start with a small random bias
    (``adapter_bias_init``), which represents a missing modality in a history. With the released
    1e-12 and 0 it would be a row of zeros, whose gradients grow a millionfold in every norm and
    overflow after two layers.
    NOTE: the in-batch softmax corrects for the popularity of the targets (``logq_correction``).
    NOTE: ``causal_time`` makes a time signal depend on earlier events only, so that ``use_time``
    works with ``loss_positions: all``; the release mixes the times of the whole history.
    NOTE: ``loss_positions: all`` trains on every event of a window at once instead of one target
    per example; the blocks are causal, so each position is the end of a history.
    NOTE: only the last position is computed in the last cross layer; the function is the same.
    NOTE: ``released: True`` layers ``properties/released/MMM4Rec.yaml`` over the defaults, which is
    the function of the authors' first release, for its weights.

    Reference:
        "MMM4Rec: A Transfer-Efficient Framework for Multi-modal Sequential Recommendation."
        arXiv 2506.02916.
    """

    domain_parameters = ("item_embeddings.*", "fusion.weight")
    # with one modality there are no cross layers, and no time signal for them
    modality_parameters = ("adapters.*", "input_norms.*", "cross_layers.*", "*.time_gate.*")
    item_tables: ClassVar = {"item_embeddings.*": 0, "fusion.weight": 0}
    encoder_parameters = ("*_layers.*",)
    layer_stacks = ("encoder_layers", "cross_layers.*")
    function_keys = (
        "mask_missing", "n_groups", "layer_norm_eps", "cross_activation", "ssd_skip", "use_time",
        "causal_time", "query_time", "time_input", "time_norm_eps", "time_gate_per_position",
    )  # fmt: skip
    trains_on_windows = True
    positions_per_group = 2048

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.use_time = bool(config["use_time"])
        self.query_time = read_choice(config, "query_time", QUERY_TIMES)
        self.time_input = read_choice(config, "time_input", TIME_INPUTS)
        self.mask_missing = bool(config["mask_missing"])
        self.temperature = config["temperature"]
        self.initializer_range = config["initializer_range"]
        self._refuse_unusable_time(config, dataset)
        self.size = self._mamba_size(config)
        self.embedding_dropout = Dropout(config["embedding_dropout_prob"])
        self._add_layers(config)
        self.item_embeddings = nn.ParameterDict()
        if self.use_item_id:
            for m in self.modalities:
                table = torch.zeros(self.n_items, self.hidden_size)
                self.item_embeddings[m] = nn.Parameter(table)
        self.fusion = CandidateFusion(config["item_mm_fusion"], len(self.modalities), self.n_items)
        self.time_init = read_choice(config, "time_init", TIME_INITS)
        self.apply(self._init_weights)
        if read_choice(config, "adapter_bias_init", ADAPTER_BIAS_INITS) == "normal":
            for adapter in self.adapters.modules():
                if isinstance(adapter, nn.Linear):
                    nn.init.normal_(adapter.bias, std=self.initializer_range)

    def _refuse_unusable_time(self, config, dataset) -> None:
        if self.use_time and not dataset.has_time:
            raise ValueError(
                f"use_time is on, but data set {config['dataset']!r} has no timestamps "
                f"(column {self.TIME!r} in its .inter file). Set use_time: False."
            )
        if not (self.use_time and config["loss_positions"] == "all"):
            return
        if not config["causal_time"]:
            raise ValueError(
                "loss_positions: all does not work with use_time: True, whose layers mix all times "
                "of a history, so that an event would see the following ones. Set causal_time: True, "
                "or change one of the two."
            )
        if self.time_input == "padded_differences":
            raise ValueError(
                "loss_positions: all does not work with time_input: padded_differences, which "
                "contains the time of the target. Set time_input: log_intervals."
            )

    def _mamba_size(self, config) -> MambaSize:
        return MambaSize(
            hidden_size=self.hidden_size,
            expand=config["expand"],
            head_dim=config["head_dim"],
            d_state=config["d_state"],
            n_groups=config["n_groups"],
            d_conv=config["d_conv"],
            max_length=self.max_seq_length,
            use_time=self.use_time,
            causal_time=bool(config["causal_time"]),
            dropout=config["hidden_dropout_prob"],
            time_dropout=config["time_dropout_prob"],
            norm_eps=config["layer_norm_eps"],
            time_norm_eps=config["time_norm_eps"],
            skip=config["ssd_skip"],
            time_gate_per_position=bool(config["time_gate_per_position"]),
            cross_activation=config["cross_activation"],
        )

    def _add_layers(self, config) -> None:
        n_layers, inner_size, size = config["n_layers"], config["inner_size"], self.size
        channels = (size.inner_size, size.state_size)
        kernels = choose_kernels(config["ssd_backend"], self.device, size.max_length, channels)
        self.input_norms = nn.ModuleDict(
            {m: nn.LayerNorm(size.hidden_size, size.norm_eps) for m in self.modalities}
        )
        # the time signal of the last layer is read by its cross layers, if there are any
        self.encoder_layers = nn.ModuleList(
            TiSSDLayer(size, inner_size, kernels, depth < n_layers - 1 or len(self.modalities) > 1)
            for depth in range(n_layers)
        )
        self.cross_layers = nn.ModuleDict(
            {
                m: nn.ModuleList(CrossLayer(size, inner_size, kernels) for _ in range(n_layers))
                for m in self.modalities[1:]
            }
        )
        if self.use_time:
            self.time_dropout = Dropout(size.time_dropout)
            norm = RunningNorm if size.causal_time else LengthNorm
            self.time_norm = norm(size.max_length, size.time_norm_eps)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self.initializer_range)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, TimeScale) and self.time_init == "identity":
            module.start_as_one()
        elif isinstance(module, FourierFusion | CausalFilter) and self.time_init == "identity":
            module.start_as_mean()

    def embed_items(self, item_id: Tensor | None = None) -> EmbeddedItems:
        embeddings = {}
        for m in self.modalities:
            embeddings[m] = self.adapt(m, item_id, mask=False)
            if self.use_item_id:
                table = self.item_embeddings[m]
                embeddings[m] = embeddings[m] + id_rows(
                    table, item_id, None, self.has_sparse_gradients
                )
        candidates = self.fusion(list(embeddings.values()), self._available(item_id), item_id)
        return EmbeddedItems(embeddings, candidates)

    def _available(self, item_id: Tensor | None) -> Tensor | None:
        """Whether items have a modality, ``(n, M)`` bool, or ``None`` if every item has an
        embedding of every modality."""
        if self.use_item_id or not self.mask_missing:
            return None
        return self.item_table.available(item_id)

    def candidate_rows(self, items: EmbeddedItems, rows: slice | Tensor) -> EmbeddedItems:
        return items._replace(candidates=take(items.candidates, rows))

    def item_vectors(self, items: EmbeddedItems) -> Tensor:
        return items.candidates

    def score_parts(self, seq_output: Tensor, item_id: Tensor) -> dict[str, Tensor]:
        embeddings = list(self.embed_items(item_id).embeddings.values())
        weights = self.fusion.weights(embeddings, self._available(item_id), item_id)
        parts = {}
        for place, (m, embedding) in enumerate(zip(self.modalities, embeddings, strict=True)):
            scale = self.temperature * embedding.norm(dim=-1).clamp(min=1e-12)
            weight = 1 / scale if weights is None else weights[..., place] / scale
            parts[m] = seq_output @ self.adapt(m, item_id, mask=False).T * weight
            if self.use_item_id:
                by_id = seq_output @ self.item_embeddings[m][item_id].T * weight
                parts["id"] = parts.get("id", 0) + by_id
        return parts

    def scores(self, items: EmbeddedItems) -> Scores:
        return dot_products(items.candidates / self.temperature)

    def encode(self, interaction, items=None, rows: Tensor | None = None) -> Tensor:
        groups, mixed = self._groups(interaction, items, rows)
        return ungroup(mixed, groups)

    def encode_positions(self, interaction, items, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        groups, mixed = self._groups(interaction, items, rows, positions="all")
        return gather_positions(mixed, groups, interaction[self.ITEM_SEQ_LEN], self.fixed_length)

    def _groups(self, interaction, items, rows, positions: str = "last"):
        """Rows of similar length, and the result of :meth:`_mix` for each group."""
        items = self.all_items() if items is None else items
        lengths = interaction[self.ITEM_SEQ_LEN]
        rows = interaction[self.ITEM_SEQ] if rows is None else rows
        factors = self._time_factors(interaction) if self.use_time else {}
        groups = self.length_groups(lengths)
        tokens = [rows[index, :longest] for index, longest in groups]
        streams = [self._streams(items, tokens, m) for m in self.modalities]
        mixed = []
        for (index, longest), *group_streams in zip(groups, *streams, strict=True):
            cut = {block: _cut(t, index, longest) for block, t in factors.items()}
            by_modality = dict(zip(self.modalities, group_streams, strict=True))
            mixed.append(self._mix(by_modality, lengths[index], cut, positions))
        return groups, mixed

    def _streams(self, items: EmbeddedItems, tokens: list[Tensor], m: str) -> list[Tensor]:
        """Inputs of one modality for every group, ``(b, l, D)`` each, from one look-up."""
        flat = torch.cat([ids.flatten() for ids in tokens])
        embedded = items.embeddings[m].index_select(0, flat)
        stream = self.input_norms[m](self.embedding_dropout(embedded))
        parts = stream.split([ids.numel() for ids in tokens])
        return [part.view(*ids.shape, -1) for part, ids in zip(parts, tokens, strict=True)]

    def _time_input(self, interaction) -> tuple[Tensor, Tensor | None]:
        """Time differences ``(b, L)``, and which positions are events (``None``: all count)."""
        timestamps, lengths = interaction[self.TIME_SEQ], interaction[self.ITEM_SEQ_LEN]
        dtype = self.time_norm.weight.dtype
        if self.time_input == "padded_differences":
            differences = padded_differences(timestamps, lengths, interaction[self.TIME])
            return differences.to(dtype), None
        query_time = interaction[self.TIME] if self.query_time == "request" else None
        intervals = time_intervals(timestamps, lengths, query_time)
        if self.time_input == "log_intervals":
            intervals = intervals.log1p()
        position = torch.arange(timestamps.shape[1], device=timestamps.device)
        return intervals.to(dtype), position < lengths.unsqueeze(1)

    def _time_factors(self, interaction) -> dict[tuple, Tensor | tuple[Tensor, Tensor]]:
        """Factors of the step sizes of every layer (modality, depth), ``(b, L, h)`` each."""
        time, real = self._time_input(interaction)
        if self.times_shuffled:
            time = in_other_order(time, interaction[self.ITEM_SEQ_LEN])
        real = None if real is None else real.unsqueeze(1)
        leading, *others = self.modalities
        tau = {m: self._time_signal(time, real) for m in self.modalities}
        factors = {}
        for depth, layer in enumerate(self.encoder_layers):
            factors[leading, depth], tau[leading] = layer.ssd.time_factors(tau[leading], real)
            for m in others:
                factors[m, depth], tau[m] = self.cross_layers[m][depth].time_factors(
                    layer.ssd, tau[m], tau[leading], real
                )
        return factors

    def _time_signal(self, time: Tensor, real: Tensor | None) -> Tensor:
        """A normalized signal for every head, ``(b, h, L)``, each with its own dropout mask."""
        tau = self.time_dropout(time.unsqueeze(1).expand(-1, self.size.n_heads, -1))
        return self.time_norm(tau, real)

    def _mix(
        self, streams: dict[str, Tensor], lengths: Tensor, factors: dict, positions: str
    ) -> Tensor:
        """User vectors from the streams ``(b, l, D)`` of all modalities.

        Args:
            factors: see :meth:`_time_factors`; empty without time.
            positions: positions of the users, ``last`` or ``all``.

        Returns:
            ``(b, D)``, or ``(b, l, D)`` for all positions.
        """
        leading, *others = self.modalities
        encoded = streams[leading]
        last = len(self.encoder_layers) - 1 if positions == "last" else None
        for depth, layer in enumerate(self.encoder_layers):
            encoded = layer(encoded, factors.get((leading, depth)))
            for m in others:
                cross = self.cross_layers[m][depth]
                given = streams[m], encoded, layer.ssd, factors.get((m, depth))
                streams[m] = cross.at_end(*given, lengths) if depth == last else cross(*given)
        if not others and positions == "all":
            return encoded
        if not others:
            return encoded[torch.arange(encoded.shape[0], device=encoded.device), lengths - 1]
        return torch.stack([streams[m] for m in others]).mean(0)


def _cut(t: Tensor | tuple[Tensor, ...], index: Tensor, longest: int):
    """Some rows of ``(b, L, h)`` or of a tuple of them, cut to ``longest`` positions."""
    if isinstance(t, tuple):
        return tuple(_cut(part, index, longest) for part in t)
    return t[index, :longest]
