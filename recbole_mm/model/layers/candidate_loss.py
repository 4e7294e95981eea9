r"""Cross entropy of the next item: over items of the whole table, or over the targets of a batch.

Symbols: ``b`` rows of a batch, ``d`` hidden size, ``V`` items with the padding item 0, ``n``
candidates.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recbole_mm.model.layers.softmax import Additions, Scores, candidate_cross_entropy

TABLE_CANDIDATES = ("trained", "full", "all_rows")


class TableLoss(nn.Module):
    """Mean cross entropy of the target among items of the whole table.

    Args:
        candidates: ``trained``: items with a training interaction, so that new ones are not
            negatives; ``full``: all items; ``all_rows``: these and the padding item.
        trained: whether an item has a training interaction, ``(V,)`` bool.

    Attributes:
        rows: the candidates as rows of the table; ``None``: all of them.

    Raises:
        ValueError: for other ``candidates``.
    """

    def __init__(self, candidates: str, trained: Tensor):
        super().__init__()
        if candidates not in TABLE_CANDIDATES:
            raise ValueError(f"softmax must be one of {TABLE_CANDIDATES}, not {candidates!r}.")
        self.first = 1 if candidates == "full" else 0
        picked = candidates == "trained"
        trained_rows = trained.nonzero().squeeze(1) if picked else None
        self.register_buffer("trained_rows", trained_rows, persistent=False)
        self.register_buffer("column", trained.cumsum(0) - 1 if picked else None, persistent=False)

    @property
    def rows(self) -> slice | Tensor | None:
        if self.trained_rows is not None:
            return self.trained_rows
        return slice(self.first, None) if self.first else None

    def columns(self, item_id: Tensor) -> Tensor:
        """Where items are among the candidates."""
        return item_id - self.first if self.column is None else self.column[item_id]

    def forward(
        self, scores: Scores, seq_output: Tensor, target: Tensor, history: Additions | None = None
    ) -> Tensor:
        """The loss, 0-d.

        Args:
            scores: of the candidates.
            seq_output: users ``(b, d)``.
            target: item IDs ``(b,)``.
            history: what is added to the scores of some items, by item ID; 0 for the padding item.
        """
        if history is not None:
            history = history._replace(column=self.columns(history.column).clamp(min=0))
        return candidate_cross_entropy(scores, seq_output, self.columns(target), history)


class BatchLoss(nn.Module):
    """Mean cross entropy of the target among the targets of a batch.

    Args:
        mask_repeated: a duplicate of a row's target, in another row, is not a negative.
        share: of each item among the training targets, ``(V,)``. Targets are drawn by popularity;
            the logarithms of their shares are subtracted from the logits, so that the loss is that
            of items drawn evenly. ``None``: no correction.
        domain: of each item ``(V,)``: targets of another domain are not negatives. ``None``: all
            are.

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

    def forward(self, logits: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
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
