r"""Scores of many candidates, and their cross entropy without the matrix of all logits."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_PER_BLOCK = 1_000_000
ROWS_PER_BLOCK = 64
"""The fewest rows of a block. Every block also makes a pass over the gradients of the tables."""


class Scores(NamedTuple):
    """Scores ``(b, n)`` of ``n`` items as a function of users ``(b, d)``.

    Attributes:
        function: of users and ``tables``, each row from the same row of users; of all that it
            reads, only its arguments get a gradient.
        tables: all that is computed once per item; the first has ``n`` rows.
    """

    function: Callable[..., Tensor]
    tables: tuple[Tensor, ...]

    def __call__(self, query: Tensor) -> Tensor:
        return self.function(query, *self.tables)


def dot_products(candidates: Tensor) -> Scores:
    """Scores of users with candidates ``(n, d)``."""
    return Scores(_dot_product, (candidates,))


def _dot_product(query: Tensor, candidates: Tensor) -> Tensor:
    return query @ candidates.T


def candidate_cross_entropy(scores: Scores, query: Tensor, target: Tensor) -> Tensor:
    r"""Mean cross entropy of the logits ``scores(query)``.

    Blocks of rows go through the softmax one after another, and their gradients are formed at once:
    memory beside the arguments and their gradients is that of one block, each logit is made once
    and stays in the cache.

    Args:
        scores: of ``n`` candidates.
        query: ``(b, d)``.
        target: ``(b,)`` int64 in ``[0, n)``.

    Returns:
        0-d, as :func:`torch.nn.functional.cross_entropy` of the logits; differentiable once. Under
        autocast it is computed in the widest dtype of query and tables.
    """
    dtype = query.dtype
    for table in scores.tables:
        dtype = torch.promote_types(dtype, table.dtype)
    with torch.autocast(query.device.type, enabled=False):
        tables = [table.to(dtype) for table in scores.tables]
        return _CandidateCrossEntropy.apply(scores.function, query.to(dtype), target, *tables)


class _CandidateCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, function, query, target, *tables):
        query_needed, _, *tables_needed = ctx.needs_input_grad[1:]
        tables = [
            t.detach().requires_grad_(needed)
            for t, needed in zip(tables, tables_needed, strict=True)
        ]
        rows = max(ROWS_PER_BLOCK, LOGITS_PER_BLOCK // len(tables[0]))
        query_grads = []
        loss = query.new_zeros(())
        for q, t in zip(query.detach().split(rows), target.unsqueeze(1).split(rows), strict=True):
            q.requires_grad_(query_needed)
            with torch.enable_grad():
                logits = function(q, *tables)
            grad = logits.detach().log_softmax(dim=1)
            loss -= grad.gather(1, t).sum()
            if logits.requires_grad:
                grad.exp_().scatter_add_(1, t, grad.new_full(t.shape, -1))
                logits.backward(grad)
                query_grads.append(q.grad)
        query_grad = torch.cat(query_grads) if query_needed else None
        ctx.save_for_backward(query_grad, *(table.grad for table in tables))
        ctx.rows = len(query)
        return loss / ctx.rows

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        scale = grad / ctx.rows
        query_grad, *table_grads = (
            None if saved is None else saved * scale for saved in ctx.saved_tensors
        )
        return None, query_grad, None, *table_grads
