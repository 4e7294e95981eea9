r"""Cross entropy over so many candidates that not even their embeddings fit into memory.

Candidates are embedded block by block, once for the loss and again for the gradients. Besides the
parameters and their gradients, only one block of candidates and of logits is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mm.model.layers.known_gradient import known_gradient
from recbole_mm.model.layers.softmax import LOGITS_PER_BLOCK, ROWS_PER_BLOCK, Additions, Scores
from recbole_mm.tools.blocks import numbers_at_once


@dataclass(frozen=True)
class RecomputedScores:
    """Scores of ``n`` candidates that are computed whenever they are needed.

    Attributes:
        scores_of: function from item ids ``(m,)`` to their scores; random draws, such as dropout's,
            are the same when it is called again in the same order from the same generator state.
        item_id: candidates ``(n,)``.
        size: number of candidates computed at once.
        parameters: parameters that ``scores_of`` reads.
    """

    scores_of: Callable[[Tensor], Scores]
    item_id: Tensor
    size: int
    parameters: Sequence[Tensor]

    def blocks(self) -> Iterator[tuple[int, Scores]]:
        """The first column of each block and its scores."""
        for first in range(0, len(self.item_id), self.size):
            yield first, self.scores_of(self.item_id[first : first + self.size])


def recomputed_cross_entropy(
    scores: RecomputedScores, query: Tensor, target: Tensor, additions: Additions | None = None
) -> Tensor:
    r"""Mean cross entropy, equal to
    :func:`~recbole_mm.model.layers.softmax.candidate_cross_entropy` over all candidates.

    Each logit is computed twice, and each candidate embedded twice.

    Args:
        scores: scores of ``n`` candidates.
        query: ``(b, d)``.
        target: ``(b,)`` int64 in ``[0, n)``.
        additions: additions to some of the logits.

    Returns:
        0-d; differentiable once, with a single backward pass. Logits are computed in the widest
        dtype of query and tables, even under autocast.
    """
    column, value = (None, None) if additions is None else additions
    given = (query, target, column, value)
    return _RecomputedCrossEntropy.apply(scores, *given, *scores.parameters)


class _Batch(NamedTuple):
    """Users ``(b, d)``, the columns of their targets ``(b,)`` and additions ``(b, s)`` or ``None``."""

    query: Tensor
    target: Tensor
    column: Tensor | None
    value: Tensor | None

    def take(self, rows: slice) -> "_Batch":
        """Some rows."""
        return _Batch(*(None if part is None else part[rows] for part in self))

    def row_blocks(self, width: int) -> list[slice]:
        """Blocks of rows whose logits for ``width`` candidates are computed at once."""
        logits_per_block = numbers_at_once(LOGITS_PER_BLOCK, self.query.device)
        size = max(ROWS_PER_BLOCK, logits_per_block // width)
        return [slice(first, first + size) for first in range(0, len(self.query), size)]

    def logits(self, scores: Scores, first: int) -> Tensor:
        """Logits of a block of candidates that starts at column ``first``."""
        logits = scores(self.query)
        if self.column is None or self.value is None:
            return logits
        column, inside = _within(self.column - first, logits.shape[1])
        return logits.scatter_add(1, column, self.value.to(logits.dtype).where(inside, 0))

    def targets(self, first: int, width: int) -> tuple[Tensor, Tensor]:
        """Columns of the targets in such a block, and whether they are in it, ``(b, 1)`` each."""
        place, inside = _within(self.target - first, width)
        return place.unsqueeze(1), inside.unsqueeze(1)


def _within(column: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Columns of a block, and whether they are in it; the others become 0."""
    inside = (column >= 0) & (column < width)
    return column.where(inside, 0), inside


class _RecomputedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, query, target, column, value, *parameters):
        batch, generator = _Batch(query, target, column, value), _Generator(query.device)
        log_total, own = _totals(scores, batch)
        _, query_needed, _, _, value_needed, *_ = ctx.needs_input_grad
        if any(ctx.needs_input_grad):
            generator.rewind()
            leaves = batch._replace(
                query=query.detach().requires_grad_(query_needed),
                value=None if value is None else value.detach().requires_grad_(value_needed),
            )
            ctx.grads = _gradients(scores, leaves, log_total, parameters)
        return (log_total - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        query, value, *parameters = ctx.grads
        ctx.grads = None  # the largest tensors of a step, hence scaled in place, only once
        scaled = (None if each is None else each.mul_(grad) for each in (query, value, *parameters))
        query, value, *parameters = scaled
        return None, query, None, None, value, *parameters


class _Generator:
    """The saved state of a device's random number generator."""

    def __init__(self, device: torch.device):
        self.module = torch if device.type == "cpu" else getattr(torch, device.type)
        self.state = self.module.get_rng_state()

    def rewind(self) -> None:
        self.module.set_rng_state(self.state)


def _widened(scores: Scores, query: Tensor) -> Scores:
    """Scores whose tables are in the widest dtype of tables and query."""
    dtype = query.dtype
    for table in scores.tables:
        dtype = torch.promote_types(dtype, table.dtype)
    return scores._replace(tables=tuple(table.to(dtype) for table in scores.tables))


def _totals(scores: RecomputedScores, batch: _Batch) -> tuple[Tensor, Tensor]:
    """The log-sum-exp of each row's logits, and the logit of its target."""
    parts = []
    for first, block in scores.blocks():
        block = _widened(block, batch.query)
        with torch.autocast(batch.query.device.type, enabled=False):
            pairs = [
                _total(batch.take(rows), block, first)
                for rows in batch.row_blocks(len(block.tables[0]))
            ]
        parts.append([torch.cat(rows) for rows in zip(*pairs, strict=True)])
    totals, own = (torch.stack(part) for part in zip(*parts, strict=True))
    return totals.logsumexp(dim=0), own.sum(dim=0)


def _total(batch: _Batch, block: Scores, first: int) -> tuple[Tensor, Tensor]:
    """:func:`_totals` for some rows and one block; the logit is 0 if the target is not in it."""
    query = batch.query.to(block.tables[0].dtype)
    logits = batch._replace(query=query).logits(block, first)
    place, inside = batch.targets(first, logits.shape[1])
    return logits.logsumexp(dim=1), logits.gather(1, place).where(inside, 0).squeeze(1)


def _gradients(scores: RecomputedScores, batch: _Batch, log_total: Tensor, parameters) -> list:
    """Gradients of the mean loss by query, additions and each parameter; ``None`` if there is
    none."""
    sums: list[Tensor | None] = [None] * len(parameters)
    with torch.enable_grad():
        for first, block in scores.blocks():
            tables = _widened(block, batch.query).tables
            leaves = [table.detach().requires_grad_(table.requires_grad) for table in tables]
            detached = block._replace(tables=tuple(leaves))
            with torch.autocast(batch.query.device.type, enabled=False):
                for rows in batch.row_blocks(len(leaves[0])):
                    _send_back(batch.take(rows), detached, first, log_total[rows], len(log_total))
            _add_to_parameters(sums, parameters, tables, leaves)
    value = None if batch.value is None else batch.value.grad
    return [batch.query.grad, value, *sums]


def _send_back(batch: _Batch, block: Scores, first: int, log_total: Tensor, n_rows: int) -> None:
    """Add to the gradients of users, additions and the block's tables."""
    query = batch.query.to(block.tables[0].dtype)
    logits = batch._replace(query=query).logits(block, first)
    if not logits.requires_grad:
        return
    grad = (logits.detach() - log_total.unsqueeze(1)).exp_()
    place, inside = batch.targets(first, grad.shape[1])
    grad.scatter_add_(1, place, -inside.to(grad.dtype))
    known_gradient([logits], [grad.div_(n_rows)]).backward()


def _add_to_parameters(sums: list, parameters, tables, leaves) -> None:
    """Backpropagate the gradients of a block's tables to the parameters."""
    wanted = [place for place, parameter in enumerate(parameters) if parameter.requires_grad]
    pairs = [
        (table, leaf.grad)
        for table, leaf in zip(tables, leaves, strict=True)
        if leaf.grad is not None
    ]
    if not pairs or not wanted:
        return
    outputs, gradients = zip(*pairs, strict=True)
    own = [parameters[place] for place in wanted]
    found = torch.autograd.grad(known_gradient(outputs, gradients), own, allow_unused=True)
    for place, gradient in zip(wanted, found, strict=True):
        if gradient is None:
            continue
        if sums[place] is None:
            sums[place] = torch.zeros_like(parameters[place])
        sums[place].add_(gradient)  # for an ID table it is sparse, with the rows of the block
