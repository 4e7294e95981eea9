r"""Next-item losses: over items of the whole table, the targets of a batch, or a sample.

Symbols: ``b`` rows of a batch, ``d`` hidden size, ``V`` items with the padding item 0, ``n``
candidates.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.recomputed_softmax import RecomputedScores, recomputed_cross_entropy
from recbole_mm.model.layers.softmax import Additions, Scores, candidate_cross_entropy
from recbole_mm.tools import processes

TABLE_CANDIDATES = ("trained", "full", "all_rows")


class Targets(NamedTuple):
    """The users of a batch and the items that they choose next.

    Attributes:
        users: ``(b, d)``.
        item: ids ``(b,)``.
        history: additions to the scores of some items, by item ID, where these are candidates of
            the row; 0 for the padding item.
        counts: whether a row is part of the mean, ``(b,)`` bool; ``None``: all rows are. The item
            of the other rows may be the padding item.
    """

    users: Tensor
    item: Tensor
    history: Additions | None = None
    counts: Tensor | None = None

    def take(self, rows: slice | Tensor) -> "Targets":
        """Some rows."""
        history = self.history
        history = None if history is None else Additions(*(part[rows] for part in history))
        counts = None if self.counts is None else self.counts[rows]
        return Targets(self.users[rows], self.item[rows], history, counts)

    def counted(self) -> "Targets":
        """The rows that are part of the mean."""
        return self if self.counts is None else self.take(self.counts)._replace(counts=None)


class TableLoss(nn.Module):
    """Mean cross entropy of the target among items of the whole table.

    Args:
        candidates: ``trained``: items with a training interaction, so that new items are not
            negatives; ``full``: all items; ``all_rows``: all items and the padding item.
        trained: whether an item has a training interaction, ``(V,)`` bool.
        domain: domain of each item ``(V,)``, from 0, and -1 for the padding item: the candidates
            are those of the target's domain. ``None``: those of all domains.

    Raises:
        ValueError: unknown ``candidates``, or ``all_rows`` together with ``domain``.
    """

    def __init__(self, candidates: str, trained: Tensor, domain: Tensor | None = None):
        super().__init__()
        if candidates not in TABLE_CANDIDATES:
            raise ValueError(f"softmax must be one of {TABLE_CANDIDATES}, not {candidates!r}.")
        if domain is not None and candidates == "all_rows":
            raise ValueError("the padding item, a candidate of softmax: all_rows, has no domain.")
        self.first = 1 if candidates == "full" else 0
        picked = column = None  # the rows, unless they are all from the first one on
        if candidates == "trained" or domain is not None:
            eligible = trained if candidates == "trained" else domain >= 0
            picked = eligible.nonzero().squeeze(1)
            numbers = torch.zeros_like(picked) if domain is None else domain[picked]
            picked = picked[numbers.argsort(stable=True)]
            sizes = numbers.bincount()
            starts = sizes.cumsum(0) - sizes
            column = torch.full_like(trained, -1, dtype=torch.int64)
            column[picked] = torch.arange(len(picked), device=picked.device)
            column[picked] -= starts.repeat_interleave(sizes)
            self.sizes = sizes.tolist()
        self.register_buffer("picked", picked, persistent=False)
        self.register_buffer("column", column, persistent=False)
        self.register_buffer("domain", domain, persistent=False)

    def groups(self, target: Tensor) -> Iterator[tuple[slice | Tensor, slice | Tensor | None]]:
        """Which rows of a batch have which candidates.

        Args:
            target: item IDs ``(b,)``.

        Yields:
            rows of the batch, and their candidates as rows of the table (``None``: all rows). Every
            row of the batch is in exactly one group.
        """
        if self.domain is None:
            rows = slice(self.first, None) if self.first else None
            yield slice(None), rows if self.picked is None else self.picked
            return
        of_target = self.domain[target]
        for number, rows in enumerate(self.picked.split(self.sizes)):
            group = (of_target == number).nonzero().squeeze(1)
            if len(group):
                yield group, rows

    def columns(self, item_id: Tensor) -> Tensor:
        """Positions of items among the candidates (of their domain); negative if not a
        candidate."""
        return item_id - self.first if self.column is None else self.column[item_id]

    def forward(
        self,
        scores_of: Callable[[slice | Tensor | None], Scores | RecomputedScores],
        targets: Targets,
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            scores_of: function from rows of the table, the candidates (``None``: all), to their
                scores.
            targets: targets of a batch.
        """
        if self.domain is not None:
            targets = targets.counted()
        total = targets.users.new_zeros(())
        for group, rows in self.groups(targets.item):
            own = targets.take(group)
            loss = self._of_group(scores_of(rows), own)
            total = total + loss * (len(own.item) / len(targets.item))
        return total

    def _of_group(self, scores: Scores | RecomputedScores, targets: Targets) -> Tensor:
        if isinstance(scores, RecomputedScores):
            targets = targets.counted()
        users, item, history, counts = targets
        if history is not None:
            history = self._among_candidates(history, item)
        column = self.columns(item)
        if isinstance(scores, RecomputedScores):
            return recomputed_cross_entropy(scores, users, column, history)
        column = column if counts is None else column.clamp(min=0)
        return candidate_cross_entropy(scores, users, column, history, counts)

    def _among_candidates(self, history: Additions, target: Tensor) -> Additions:
        column = self.columns(history.column)
        known = column >= 0
        if self.domain is not None:
            known &= self.domain[history.column] == self.domain[target].unsqueeze(1)
        return Additions(column.where(known, 0), history.value.where(known, 0))


class BatchLoss(nn.Module):
    """Mean cross entropy of the target among the targets of a batch.

    Args:
        mask_repeated: whether a duplicate of a row's target in another row is excluded from the
            negatives.
        share: share of each item among the training targets, ``(V,)``. Targets occur by popularity;
            the logarithms of their shares are subtracted from the logits, so that the loss is that
            of uniformly drawn items. ``None``: no correction.
        domain: domain of each item ``(V,)``: targets of another domain are not negatives. ``None``:
            all targets are.

    Reference:
        Yi et al. "Sampling-bias-corrected neural modeling for large corpus item recommendations."
        RecSys 2019, for the correction.
    """

    def __init__(
        self, mask_repeated: bool, share: Tensor | None = None, domain: Tensor | None = None
    ):
        super().__init__()
        self.mask_repeated = mask_repeated
        log_share = None if share is None else share.clamp(min=1e-12).log().float()
        self.register_buffer("log_share", log_share, persistent=False)
        self.register_buffer("domain", domain, persistent=False)

    def forward(self, scores_of: Callable[[Tensor], Scores], targets: Targets) -> Tensor:
        """The loss, 0-d.

        Args:
            scores_of: function from item IDs to their scores.
            targets: targets of a batch; their history is ignored.
        """
        users, item, *_ = targets.counted()
        candidates, own = processes.gather_rows(item)
        return self.of_logits(scores_of(candidates)(users), candidates, own)

    def of_logits(self, logits: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
        """The loss, 0-d.

        Args:
            logits: ``(b, n)``, ``n >= b``: several processes share their targets.
            candidates: item of each column, ``(n,)``.
            own: column of each row's target, ``(b,)``.
        """
        if self.log_share is not None:
            logits = logits - self.log_share[candidates].to(logits.dtype)
        target = candidates[own].unsqueeze(1)
        if self.mask_repeated:
            repeated = candidates == target
            repeated.scatter_(1, own.unsqueeze(1), False)
            logits = logits.masked_fill(repeated, -torch.inf)
        if self.domain is not None:
            others = self.domain[candidates] != self.domain[target]
            logits = logits.masked_fill(others, -torch.inf)
        return F.cross_entropy(logits, own)


class SampledLoss(nn.Module):
    r"""Loss of the target against a sample of items that all rows share.

    ``softmax``: cross entropy over the targets of the batch and ``n_negatives`` uniformly drawn
    items. The logarithm of the probability that an item is among them is subtracted from its logit,
    so that the loss estimates the one over all items.

    ``gbce``: binary cross entropy of the target and of the drawn items. The target's probability is
    raised to the power :math:`\beta = \alpha (t (1 - 1/\alpha) + 1/\alpha)`, where
    :math:`\alpha` is the share of the other items that is drawn: without it (:math:`t = 0`), scores
    are too large after sampling; with :math:`t = 1`, they are calibrated. The logarithm of the
    number of other items, their odds against one target, is subtracted from every score: otherwise
    each embedding must learn this number, which does not affect the ranking.

    Args:
        eligible: items that can be drawn, those with a training interaction, ``(e,)``.
        n_negatives: number of draws, with replacement.
        share: share of each item among the training targets, ``(V,)``.
        calibration: ``t`` of ``gbce``; ``None``: ``softmax``.

    Raises:
        ValueError: fewer than two items can be drawn.

    Reference:
        Aleksandr Petrov and Craig Macdonald. "gSASRec: Reducing overconfidence in sequential
        recommendation trained with negative sampling." RecSys 2023 (arXiv 2308.07192), for ``gbce``,
        where every target has its own negatives.
    """

    def __init__(
        self, eligible: Tensor, n_negatives: int, share: Tensor, calibration: float | None = None
    ):
        super().__init__()
        if len(eligible) < 2:
            raise ValueError("a sample of negatives needs two items with a training interaction.")
        self.n_negatives, self.calibration = n_negatives, calibration
        self.register_buffer("eligible", eligible, persistent=False)
        even = torch.zeros_like(share)
        even[eligible] = 1 / len(eligible)
        # log-probability of not being drawn in one draw, in float64 since shares are small
        log_out = (-torch.stack([share, even]).double().clamp(max=1 - 1e-9)).log1p()
        self.register_buffer("log_out", log_out, persistent=False)

    @property
    def power(self) -> float:
        """The exponent of the target's probability in ``gbce``."""
        assert self.calibration is not None
        drawn = min(1.0, self.n_negatives / (len(self.eligible) - 1))
        return drawn * (self.calibration * (1 - 1 / drawn) + 1 / drawn)

    def draw(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the candidates of a batch.

        Args:
            target: item IDs, ``(b,)``.

        Returns:
            distinct item IDs ``(n,)``, sorted, including the targets; whether each was drawn,
            ``(n,)`` bool.
        """
        number = torch.randint(len(self.eligible), (self.n_negatives,), device=target.device)
        negatives = self.eligible[number]
        candidates = torch.unique(torch.cat([target, negatives]))
        return candidates, torch.isin(candidates, negatives)

    def forward(self, scores_of: Callable[[Tensor], Scores], targets: Targets) -> Tensor:
        """The loss, 0-d.

        Args:
            scores_of: function from item IDs to their scores.
            targets: targets of a batch.
        """
        targets = targets.counted()
        candidates, drawn = self.draw(targets.item)
        logits = scores_of(candidates)(targets.users)
        return self.of_logits(logits, candidates, drawn, targets)

    def of_logits(
        self, logits: Tensor, candidates: Tensor, drawn: Tensor, targets: Targets
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            logits: logits of the candidates, ``(b, n)``.
            candidates: see :meth:`draw`.
            drawn: see :meth:`draw`.
            targets: targets of a batch.
        """
        _, target, history, _ = targets
        if history is not None:
            column = torch.searchsorted(candidates, history.column).clamp(max=len(candidates) - 1)
            value = history.value.where(candidates[column] == history.column, 0)
            logits = logits.scatter_add(1, column, value.to(logits.dtype))
        own = torch.searchsorted(candidates, target)
        if self.calibration is None:
            corrected = logits - self._log_inclusion(candidates, len(target)).to(logits.dtype)
            return F.cross_entropy(corrected, own)
        logits = logits - math.log(len(self.eligible) - 1)
        rows = torch.arange(len(target), device=target.device)
        others = drawn.expand(len(target), -1).clone()
        others[rows, own] = False
        negatives = (F.softplus(logits) * others).sum(dim=1)
        return (negatives - self.power * F.logsigmoid(logits[rows, own])).mean()

    def _log_inclusion(self, candidates: Tensor, n_targets: int) -> Tensor:
        """Logarithm of the probability that an item is a target or is drawn, ``(n,)``."""
        by_target, evenly = self.log_out[:, candidates]
        return (-(n_targets * by_target + self.n_negatives * evenly).expm1()).log()
