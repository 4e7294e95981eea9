r"""The rank of every test target: one row per target, stored as parquet.

Rank 1 is the best. Items with the same score as the target count half, see
:func:`~recbole_mm.training.ranking.rank_by_counting`, so that ties favor no model; a NaN score puts
the target last. All other numbers (metrics, intervals, slices) are computed from these rows.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from recbole.evaluator import Evaluator
from torch import Tensor

from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.data.prefixes import EVENT_ROW, LAST_ROW
from recbole_mm.model.layers.top_k import top_k
from recbole_mm.reporting.metrics import GAINS
from recbole_mm.run.run import Run
from recbole_mm.tools.files import whole_or_not
from recbole_mm.training.ranking import RankCollector

LIST_LENGTH = 10
"""Number of recommended items that are stored with a rank."""

CANDIDATES, MASKED = TREATMENTS = ("candidates", "masked")
"""Treatments, at test, of the items in the user's history."""

LIST_METRICS = ("ItemCoverage", "AveragePopularity")
"""RecBole's metrics of whole lists, for the share of the catalog and for its popularity."""


class Evaluation(NamedTuple):
    """How one trained model ranks the test targets.

    Attributes:
        ranks: ``user``, ``item`` (tokens), ``rank`` (from 1), ``history_length`` (all earlier
            events except those of held-out items), ``recommended`` (tokens, best first).
        metrics: metrics that RecBole computes: those of ranks, and :data:`LIST_METRICS`.
    """

    ranks: pl.DataFrame
    metrics: dict[str, float]


def evaluate_ranks(run: Run, mask_seen: bool = False) -> Evaluation:
    """Rank the test targets with the model as it is now.

    Args:
        run: run whose trainer's model is evaluated.
        mask_seen: whether to rank the items of the user's history last (except the target itself).
    """
    trainer = run.trainer
    collector, evaluator = trainer.eval_collector, trainer.evaluator
    recorder, trainer.evaluator = rank_recorder(run, mask_seen)
    trainer.eval_collector = recorder
    try:
        metrics = trainer.evaluate(run.splits.test, load_best_model=False)
    finally:
        trainer.eval_collector, trainer.evaluator = collector, evaluator
    return Evaluation(recorder.table(), {name: float(value) for name, value in metrics.items()})


def rank_recorder(run: Run, mask_seen: bool) -> tuple["RankRecorder", Evaluator]:
    """A recorder of the ranks of the test targets, and RecBole's evaluator of their metrics.

    Args:
        run: run whose data are used.
        mask_seen: see :func:`evaluate_ranks`.
    """
    test = run.splits.test.dataset
    plain = config_to_plain(run.config)
    lengths = [k for k in plain["topk"] if k < test.item_num] or [1]  # a list has no duplicates
    config = config_from_plain({**plain, "metrics": [*GAINS, *LIST_METRICS], "topk": lengths})
    recorder = RankRecorder(config, test, mask_seen)
    recorder.data_collect(run.splits.train)
    counts = run.splits.train.dataset.item_counts()  # RecBole would only count targets
    recorder.data_struct.set("data.count_items", dict(enumerate(counts.tolist())))
    return recorder, Evaluator(config)


class RankRecorder(RankCollector):
    """A collector that also keeps every rank and the head of every list.

    Args:
        config: RecBole's configuration.
        dataset: test targets, in the order in which they are evaluated.
        mask_seen: see :func:`evaluate_ranks`.
    """

    def __init__(self, config, dataset, mask_seen: bool):
        super().__init__(config)
        self.dataset, self.mask_seen = dataset, mask_seen
        self.history_length, self.seen_by_row = _histories(dataset)
        self.ranks: list[Tensor] = []
        self.lists: list[Tensor] = []

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if self.mask_seen:
            self._mask_seen(scores_tensor, positive_i)
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)

    def on_ranks(self, rank: Tensor, scores: Tensor) -> None:
        length = min(LIST_LENGTH, scores.shape[1] - 1)
        self.ranks.append((rank + 1).clamp(max=scores.shape[1] - 1).cpu())
        self.lists.append(top_k(scores, length)[1].cpu())

    def _mask_seen(self, scores: Tensor, target: Tensor) -> None:
        rows = torch.arange(len(scores), device=scores.device)
        target = target.to(scores.device)
        own = scores[rows, target]
        first = sum(map(len, self.ranks))
        for row in range(len(scores)):
            scores[row, self.seen_by_row(first + row)] = -torch.inf
        scores[rows, target] = own

    def table(self) -> pl.DataFrame:
        """The rows of :class:`Evaluation`."""
        dataset = self.dataset
        tokens = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str)
        users = np.asarray(dataset.field2id_token[dataset.uid_field]).astype(str)
        return pl.DataFrame(
            {
                "user": users[dataset.inter_feat[dataset.uid_field].numpy()],
                "item": tokens[dataset.inter_feat[dataset.iid_field].numpy()],
                "rank": torch.cat(self.ranks).numpy(),
                "history_length": self.history_length,
                "recommended": tokens[torch.cat(self.lists).numpy()].tolist(),
            }
        )


def _histories(dataset) -> tuple[np.ndarray, Callable[[int], Tensor]]:
    """The length of the history of each target, and a function that gives its items by row.

    Histories that are read from files (``benchmark_filename``) are cut to ``MAX_ITEM_LIST_LENGTH``.
    """
    targets = dataset.inter_feat
    if dataset.has_histories:
        items = targets[dataset.history_field(dataset.iid_field)]
        length = targets[dataset.item_list_length_field].numpy()
        return length, lambda row: items[row, : length[row]]
    users = targets[dataset.uid_field].numpy()
    first = np.searchsorted(dataset.history[dataset.uid_field].numpy(), users)
    start = np.searchsorted(dataset.events[dataset.uid_field].numpy(), users)
    end = targets[EVENT_ROW if EVENT_ROW in targets else LAST_ROW].numpy()
    events = dataset.events[dataset.iid_field]
    return targets[LAST_ROW].numpy() - first, lambda row: events[start[row] : end[row]]


def write_table(table: pl.DataFrame, path: Path) -> None:
    """Write parquet atomically."""
    with whole_or_not(path) as temporary:
        table.write_parquet(temporary)
