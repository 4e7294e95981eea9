"""Ranking by counting instead of sorting, inside RecBole's evaluation."""

from collections.abc import Callable

import torch
from recbole.evaluator import Collector

from recbole_mm.config.errors import ConfigError
from recbole_mm.model.layers.top_k import top_k
from recbole_mm.tools import processes
from recbole_mm.tools.blocks import numbers_at_once
from recbole_mm.tools.errors import RunFailed

METRICS_OF_RANKS = {"recall", "mrr", "ndcg", "hit", "precision", "map"}
METRICS_OF_LISTS = {
    "itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage",
}  # fmt: skip
SCORES_PER_BLOCK = 400_000  # stay in a core's cache
SCORES_AT_ONCE = 1 << 27
"""Maximum number of scores of a batch in memory, 512 MB of float32; larger batches are ranked in
pieces."""


class ScoresAreNaN(RunFailed):
    """The scores of targets are not numbers, so their ranks are unknown."""


def remedy_of_nan(config) -> str:
    """A fix for numbers that have become NaN or infinite."""
    return (
        f"lower learning_rate ({config['learning_rate']}), set clip_grad_norm, or check the "
        f"features for huge values"
    )


class RankCollector(Collector):
    """RecBole's collector, which finds the rank of a row's only positive item by counting.

    An item with the same score as the positive one counts half: if all scores are equal, the
    positive is ranked in the middle, which favors no model. Metrics of the recommended lists
    (coverage, popularity, ...) get the lists as RecBole makes them; other metrics, and rows with
    several positives, are left to RecBole.

    Raises:
        ConfigError: lists would be longer than the catalog; raised when data or scores are
            collected. Metrics of ranks alone allow any ``k``.
        ScoresAreNaN: scores of targets were not numbers; raised at the end.
    """

    def __init__(self, config):
        super().__init__(config)
        self.counts_ranks = {
            m.lower() for m in config["metrics"]
        } <= METRICS_OF_RANKS | METRICS_OF_LISTS
        self._unranked: list[torch.Tensor] = []  # number of unranked targets per batch

    def data_collect(self, train_data):
        self._refuse_lists_longer_than(train_data._dataset.item_num - 1)
        super().data_collect(train_data)

    def collect_sizes(self, dataset) -> None:
        """Collect the numbers of users and items where no training data were collected, as in a test
        of a checkpoint.

        Raises:
            ConfigError: a metric needs the training data.
        """
        for name, size in (("num_items", dataset.item_num), ("num_users", dataset.user_num)):
            self.data_struct._data_dict.setdefault(f"data.{name}", size)
        for name in ("data.count_items", "data.count_users"):
            if self.register.need(name) and name not in self.data_struct:
                raise ConfigError(
                    f"metrics {self.config['metrics']}: one of them counts the training data; call "
                    f"trainer.eval_collector.data_collect(train_data) before the test"
                )

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        if positive_u is None or scores_tensor.dim() == 1:  # scores of pairs, for metrics of labels
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        self._refuse_lists_longer_than(scores_tensor.shape[1] - 1)
        rows = torch.arange(len(scores_tensor), device=positive_u.device)
        if not self.counts_ranks or not torch.equal(positive_u, rows):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        k = max(self.topk)
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", top_k(scores_tensor, k)[1])
        rank = rank_by_counting(scores_tensor, positive_i.to(scores_tensor.device))
        self._unranked.append((rank == scores_tensor.shape[1]).sum())
        self.on_ranks(rank, scores_tensor)
        hits = rank.unsqueeze(1) == torch.arange(k, device=rank.device)
        n_positive = torch.ones(len(rank), 1, dtype=torch.int, device=rank.device)
        self.data_struct.update_tensor("rec.topk", torch.cat([hits.int(), n_positive], dim=1))

    def _refuse_lists_longer_than(self, n_items: int) -> None:
        k = max(self.topk, default=0)
        sorts = self.register.need("rec.topk") and not self.counts_ranks
        if k > n_items and (sorts or self.register.need("rec.items")):
            raise ConfigError(
                f"topk {self.config['topk']}: no list of {k} items exists, the catalog has {n_items}; "
                f"metrics of lists among {self.config['metrics']} need topk <= {n_items}"
            )

    def on_ranks(self, rank: torch.Tensor, scores: torch.Tensor) -> None:
        """Called with the 0-based ranks ``(b,)`` and the scores ``(b, n_items)`` of a batch."""

    def _refuse_unranked(self) -> None:
        unranked, self._unranked = int(sum(self._unranked)), []
        if unranked:
            raise ScoresAreNaN(
                f"the scores of {self.config['model']} are not numbers for {unranked} targets: "
                f"{remedy_of_nan(self.config)}"
            )

    def get_data_struct(self):
        self._refuse_unranked()
        struct = super().get_data_struct()
        if processes.size() > 1:
            for key, value in struct._data_dict.items():
                if key.startswith("rec."):
                    rows = value.to(self.config["device"])
                    struct._data_dict[key] = processes.gather_rows(rows)[0].cpu()
        return struct


def pieces(batch: tuple, n_items: int) -> list[tuple]:
    """Split one of RecBole's evaluation batches into smaller ones whose scores fit into memory.

    It stays whole if rows have a history to mask or several positive items.

    Args:
        batch: interaction, index of the history, row and item of each positive.
        n_items: number of scores in a row.
    """
    interaction, history_index, positive_u, positive_i = batch
    n, size = len(interaction), max(1, SCORES_AT_ONCE // n_items)
    if n <= size or history_index is not None or not torch.equal(positive_u, torch.arange(n)):
        return [batch]
    return [
        (interaction[rows], None, torch.arange(len(rows)), positive_i[rows])
        for rows in torch.arange(n).split(size)
    ]


def domains_of_items(dataset) -> torch.Tensor:
    """The index of each item's domain, ``(n_items,)``, for ``same_domain_candidates``.

    Raises:
        ConfigError: the data set is not a mixture.
    """
    if not getattr(dataset, "domains", None):
        raise ConfigError(
            f"same_domain_candidates needs a mixture, but {dataset.dataset_name!r} has no domains"
        )
    return dataset.item_domain


def rank_by_counting(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """0-based rank of one item per row: the number of better items plus half of the equal ones.

    If the number of equal items is odd, the remaining one counts as better for positive items with
    odd ids and as worse for the others, so that half ranks even out.

    Args:
        scores: ``(b, n)``.
        positive: ``(b,)`` column of the item.

    Returns:
        ``(b,)`` int. NaN counts against the item: other items with NaN count as better, and its own
        NaN puts it behind every list.
    """
    own = scores.gather(1, positive.unsqueeze(1))
    worse, equal = _count(torch.lt, scores, own), _count(torch.eq, scores, own) - 1
    better = scores.shape[1] - 1 - worse - equal
    rank = better + torch.div(equal + positive % 2, 2, rounding_mode="floor")
    return rank.masked_fill(own.squeeze(1).isnan(), scores.shape[1])


def _count(relation: Callable, scores: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Number of columns per row whose score has the relation to ``own`` ``(b, 1)``: ``(b,)`` int64.

    A sum of bools would convert them all to int64 first; in float32 counts are exact up to 2^24.
    """
    rows = max(1, numbers_at_once(SCORES_PER_BLOCK, scores.device) // scores.shape[1])
    holds = torch.empty_like(scores[:rows], dtype=torch.float32)
    counts = [
        relation(block, limit, out=holds[: len(block)]).sum(dim=1)
        for block, limit in zip(scores.split(rows), own.split(rows), strict=True)
    ]
    return torch.cat(counts).long()
