r"""Scores of many candidates, and their cross entropy without the matrix of all logits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recbole_mm.model.layers.known_gradient import known_gradient
from recbole_mm.model.layers.products import linear
from recbole_mm.tools.blocks import numbers_at_once

LOGITS_PER_BLOCK = 1_000_000
USERS_PER_PRODUCT = 32  # users whose few items are multiplied at once
ROWS_PER_BLOCK = 64
"""Minimum number of rows in a block. Every block also makes a pass over the gradients of the
tables."""


def _first_table(candidates: Tensor, *_: Tensor) -> Tensor:
    return candidates.unsqueeze(0)


class Scores(NamedTuple):
    """Scores ``(b, n)`` of ``n`` items as a function of users ``(b, d)``.

    Attributes:
        function: function of users and ``tables``, independent for each user; only these arguments
            get a gradient.
        tables: tensors that are computed once per item; the first has ``n`` rows, the others have
            ``n`` rows or no axis.
        bounds: function of ``tables`` that returns vectors ``(p, n, d)`` per item: the item's score
            is at most the largest of their dot products with the user. By default the first table.
    """

    function: Callable[..., Tensor]
    tables: tuple[Tensor, ...]
    bounds: Callable[..., Tensor] = _first_table

    def __call__(self, query: Tensor) -> Tensor:
        return self.function(query, *self.tables)

    @property
    def are_dot_products(self) -> bool:
        """Whether the scores are the dot products of users with the rows of a single table."""
        return self.function is _dot_product

    def of_pairs(self, query: Tensor, row: Tensor, item: Tensor) -> Tensor:
        """Compute the dot products of some users with some items.

        They are computed by matrix products of a few users with all of their items, so that each
        number is the same as among all scores: other ways to multiply add in a different order.

        Args:
            query: users ``(b, d)``.
            row: user of each pair, ascending, ``(n,)``.
            item: item of each pair, ``(n,)``.

        Returns:
            ``(n,)``
        """
        starts = range(0, len(query), USERS_PER_PRODUCT)
        ends = torch.searchsorted(row, row.new_tensor([*starts[1:], len(query)])).tolist()
        values, before = [], 0
        for start, end in zip(starts, ends, strict=True):
            users = query[start : start + USERS_PER_PRODUCT]
            scores = linear(users, self.tables[0].index_select(0, item[before:end]))
            own = row[before:end] - start
            values.append(scores.gather(0, own.unsqueeze(0)).squeeze(0))
            before = end
        return torch.cat(values)

    def block(self, first: int, last: int) -> "Scores":
        """The scores of the items ``[first, last)`` only."""
        tables = (table[first:last] if table.dim() else table for table in self.tables)
        return self._replace(tables=tuple(tables))


def dot_products(candidates: Tensor) -> Scores:
    """Scores of users with candidates ``(n, d)``."""
    return Scores(_dot_product, (candidates,))


def _dot_product(query: Tensor, candidates: Tensor) -> Tensor:
    return linear(query, candidates)


class Additions(NamedTuple):
    """Additions to a few logits of every row.

    Attributes:
        column: columns of these logits, ``(b, s)`` int64 in ``[0, n)``; a column may be repeated.
        value: numbers to add, ``(b, s)``; 0 does not change a logit.
    """

    column: Tensor
    value: Tensor


def candidate_cross_entropy(
    scores: Scores,
    query: Tensor,
    target: Tensor,
    additions: Additions | None = None,
    counts: Tensor | None = None,
) -> Tensor:
    r"""Mean cross entropy of the logits ``scores(query)``.

    Rows go through the softmax in blocks, and the gradients of a block are computed with it:
    besides the arguments and their gradients, only one block is in memory, and each logit is
    computed once and stays in the cache.

    Args:
        scores: scores of ``n`` candidates.
        query: ``(b, d)``.
        target: ``(b,)`` int64 in ``[0, n)``.
        additions: additions to some of the logits.
        counts: whether a row is part of the mean, ``(b,)`` bool; ``None``: all rows are.

    Returns:
        0-d, equal to :func:`torch.nn.functional.cross_entropy` of the logits; differentiable once.
        Under autocast it is computed in the widest dtype of query and tables.
    """
    dtype = query.dtype
    for table in scores.tables:
        dtype = torch.promote_types(dtype, table.dtype)
    with torch.autocast(query.device.type, enabled=False):
        tables = [table.to(dtype) for table in scores.tables]
        column, value = (None, None) if additions is None else additions
        value = None if value is None else value.to(dtype)
        given = (query.to(dtype), target, column, value, counts)
        return _CandidateCrossEntropy.apply(scores.function, *given, *tables)


class _CandidateCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, query, target, column, value, counts, *tables):
        query_needed, _, _, value_needed, _, *tables_needed = ctx.needs_input_grad[1:]
        tables = [
            t.detach().requires_grad_(needed)
            for t, needed in zip(tables, tables_needed, strict=True)
        ]
        logits_per_block = numbers_at_once(LOGITS_PER_BLOCK, query.device)
        size = max(ROWS_PER_BLOCK, logits_per_block // len(tables[0]))
        query_grads, value_grads = [], []
        loss = query.new_zeros(())
        for start in range(0, len(query), size):
            rows = slice(start, start + size)
            q = query.detach()[rows].requires_grad_(query_needed)
            v = None if value is None else value.detach()[rows].requires_grad_(value_needed)
            t = target[rows].unsqueeze(1)
            with torch.enable_grad():
                logits = function(q, *tables)
                if v is not None:
                    logits = logits.scatter_add(1, column[rows], v)
            grad = logits.detach().log_softmax(dim=1)
            own = grad.gather(1, t)
            loss -= (own if counts is None else own * counts[rows].unsqueeze(1)).sum()
            if logits.requires_grad:
                grad.exp_().scatter_add_(1, t, grad.new_full(t.shape, -1))
                grad = grad if counts is None else grad * counts[rows].unsqueeze(1)
                known_gradient([logits], [grad]).backward()
                query_grads.append(q.grad)
                value_grads.append(None if v is None else v.grad)
        query_grad = torch.cat(query_grads) if query_needed else None
        value_grad = torch.cat(value_grads) if value_needed else None
        ctx.save_for_backward(query_grad, value_grad, *(table.grad for table in tables))
        ctx.rows = len(query) if counts is None else counts.sum()
        return loss / ctx.rows

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        scale = grad / ctx.rows
        query_grad, value_grad, *table_grads = (
            None if saved is None else saved * scale for saved in ctx.saved_tensors
        )
        return None, query_grad, None, None, value_grad, None, *table_grads
