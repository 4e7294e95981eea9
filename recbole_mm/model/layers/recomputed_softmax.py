r"""Cross entropy over so many candidates that not even their embeddings fit into memory.

Candidates are embedded block by block, once for the loss and again for the gradients. What is in
memory besides the parameters and their gradients is a block of candidates and of logits.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mm.model.layers.softmax import LOGITS_PER_BLOCK, ROWS_PER_BLOCK, Additions, Scores


@dataclass(frozen=True)
class RecomputedScores:
    """Scores of ``n`` candidates that are computed whenever they are needed.

    Attributes:
        scores_of: of item ids ``(m,)``; random draws, as of dropout, are the same when it is called
            again in the same order from the same state of the generator.
        item_id: the candidates ``(n,)``.
        size: how many are computed at once.
        parameters: that ``scores_of`` reads.
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
    r"""Mean cross entropy, as :func:`~recbole_mm.model.layers.softmax.candidate_cross_entropy` of
    all candidates at once.

    Each logit is computed twice, and each candidate embedded twice.

    Args:
        scores: of ``n`` candidates.
        query: ``(b, d)``.
        target: ``(b,)`` int64 in ``[0, n)``.
        additions: to some of the logits.

    Returns:
        0-d; differentiable once, and only one backward pass. Logits are computed in the widest dtype
        of query and tables, also under autocast.
    """
    column, value = (None, None) if additions is None else additions
    given = (query, target, column, value)
    return _RecomputedCrossEntropy.apply(scores, *given, *scores.parameters)


class _Logits(NamedTuple):
    """Logits of some rows and a block of columns that begins with ``first``."""

    query: Tensor
    column: Tensor | None
    value: Tensor | None

    def block(self, scores: Scores, first: int) -> Tensor:
        logits = scores(self.query)
        if self.value is None:
            return logits
        column, inside = _within(self.column - first, logits.shape[1])
        return logits.scatter_add(1, column, self.value.to(logits.dtype).where(inside, 0))


def _within(column: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Columns of a block, and whether they are in it; the others become 0."""
    inside = (column >= 0) & (column < width)
    return column.where(inside, 0), inside


class _RecomputedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scores, query, target, column, value, *parameters):
        generator = _Generator(query.device)
        log_total, own = _totals(scores, query, target, column, value)
        if any(ctx.needs_input_grad):
            generator.rewind()
            needed = (ctx.needs_input_grad[1], ctx.needs_input_grad[4])
            ctx.grads = _gradients(
                scores, query, target, column, value, parameters, log_total, needed
            )
        return (log_total - own).mean()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        query, value, parameters = ctx.grads
        ctx.grads = None  # the largest tensors of a step: scaled in place, once
        scaled = [None if each is None else each.mul_(grad) for each in (query, value, *parameters)]
        return None, scaled[0], None, None, scaled[1], *scaled[2:]


class _Generator:
    """The state of the random numbers of a device, to go back to."""

    def __init__(self, device: torch.device):
        self.module = torch if device.type == "cpu" else getattr(torch, device.type)
        self.state = self.module.get_rng_state()

    def rewind(self) -> None:
        self.module.set_rng_state(self.state)


def _row_blocks(n_rows: int, width: int) -> list[slice]:
    size = max(ROWS_PER_BLOCK, LOGITS_PER_BLOCK // width)
    return [slice(first, first + size) for first in range(0, n_rows, size)]


def _widened(scores: Scores, query: Tensor) -> Scores:
    """Tables in the widest dtype of all."""
    dtype = query.dtype
    for table in scores.tables:
        dtype = torch.promote_types(dtype, table.dtype)
    return scores._replace(tables=tuple(table.to(dtype) for table in scores.tables))


def _totals(scores: RecomputedScores, query, target, column, value) -> tuple[Tensor, Tensor]:
    """The logarithm of the sum of the exponentials of each row, and the logit of its target."""
    log_total = own = None
    for first, block in scores.blocks():
        block = _widened(block, query)
        if log_total is None or own is None:
            log_total = torch.full_like(target, -torch.inf, dtype=block.tables[0].dtype)
            own = torch.zeros_like(log_total)
        with torch.autocast(query.device.type, enabled=False):
            for rows in _row_blocks(len(query), len(block.tables[0])):
                logits = _Logits(query[rows].to(own.dtype), *_cut(column, value, rows)).block(
                    block, first
                )
                log_total[rows] = torch.logaddexp(log_total[rows], logits.logsumexp(dim=1))
                place, inside = _within(target[rows] - first, logits.shape[1])
                own[rows] += logits.gather(1, place.unsqueeze(1)).squeeze(1).where(inside, 0)
    assert log_total is not None and own is not None
    return log_total, own


def _cut(column, value, rows: slice):
    return (None, None) if value is None else (column[rows], value[rows])


def _gradients(
    scores: RecomputedScores, query, target, column, value, parameters, log_total, needed
):
    """Of the mean loss with respect to query, additions and parameters; ``None`` without one."""
    query_grad = torch.zeros_like(query) if needed[0] else None
    value_grad = torch.zeros_like(value) if value is not None and needed[1] else None
    sums: list[Tensor | None] = [None] * len(parameters)
    wanted = [place for place, p in enumerate(parameters) if p.requires_grad]
    with torch.enable_grad():
        for first, block in scores.blocks():
            widened = _widened(block, query)
            leaves = [t.detach().requires_grad_(t.requires_grad) for t in widened.tables]
            detached = widened._replace(tables=tuple(leaves))
            for rows in _row_blocks(len(query), len(leaves[0])):
                cell, v = _cut(column, value, rows)
                q = query.detach()[rows].to(leaves[0].dtype).requires_grad_(query_grad is not None)
                v = None if v is None else v.detach().requires_grad_(value_grad is not None)
                with torch.autocast(query.device.type, enabled=False):
                    logits = _Logits(q, cell, v).block(detached, first)
                    if not logits.requires_grad:
                        continue
                    grad = (logits.detach() - log_total[rows].unsqueeze(1)).exp_()
                    place, inside = _within(target[rows] - first, grad.shape[1])
                    grad.scatter_add_(1, place.unsqueeze(1), -inside.to(grad.dtype).unsqueeze(1))
                    logits.backward(grad.div_(len(query)))
                _add(query_grad, rows, q.grad)
                _add(value_grad, rows, None if v is None else v.grad)
            _add_to_parameters(sums, parameters, wanted, widened.tables, leaves)
    return query_grad, value_grad, sums


def _add(total: Tensor | None, rows: slice, part: Tensor | None) -> None:
    if total is not None and part is not None:
        total[rows] += part


def _add_to_parameters(sums, parameters, wanted: list[int], tables, leaves) -> None:
    """Send the gradients of a block's tables on to the parameters."""
    pairs = [
        (t, leaf.grad) for t, leaf in zip(tables, leaves, strict=True) if leaf.grad is not None
    ]
    if not pairs or not wanted:
        return
    outputs, gradients = zip(*pairs, strict=True)
    own = [parameters[place] for place in wanted]
    found = torch.autograd.grad(outputs, own, gradients, allow_unused=True)
    for place, gradient in zip(wanted, found, strict=True):
        if gradient is None:
            continue
        total = sums[place]
        if total is None:
            total = sums[place] = torch.zeros_like(parameters[place])
        total.add_(gradient)
