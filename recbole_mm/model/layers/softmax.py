r"""Cross entropy over many candidates without the matrix of all logits."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_PER_BLOCK = 1_000_000
ROWS_PER_BLOCK = 64
"""At least: every block makes a pass over the gradients of the tables, too."""


def dot_product(query: Tensor, candidates: Tensor) -> Tensor:
    """Logits ``(b, n)`` of users ``(b, d)`` and candidates ``(n, d)``."""
    return query @ candidates.T


def candidate_cross_entropy(
    score: Callable[..., Tensor], query: Tensor, tables: tuple[Tensor, ...], target: Tensor
) -> Tensor:
    r"""Mean cross entropy of the logits ``score(query, *tables)``.

    Blocks of rows go through the softmax one after another, and their gradients are formed at once:
    memory beside the arguments and their gradients is that of one block, each logit is made once
    and stays in the cache.

    Args:
        score: gives the logits ``(b, n)``, each row from the same row of ``query``; of all that it
            reads, only its arguments get a gradient.
        query: ``(b, d)``.
        tables: what candidates are scored by; the first has ``n`` rows.
        target: ``(b,)`` int64 in ``[0, n)``.

    Returns:
        0-d, as :func:`torch.nn.functional.cross_entropy` of the logits; differentiable once. Under
        autocast it is computed in the widest dtype of query and tables.
    """
    dtype = query.dtype
    for table in tables:
        dtype = torch.promote_types(dtype, table.dtype)
    with torch.autocast(query.device.type, enabled=False):
        tables = [table.to(dtype) for table in tables]
        return _CandidateCrossEntropy.apply(score, query.to(dtype), target, *tables)


class _CandidateCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, score, query, target, *tables):
        query_needed, _, *tables_needed = ctx.needs_input_grad[1:]
        tables = [t.detach().requires_grad_(needed) for t, needed in zip(tables, tables_needed)]
        rows = max(ROWS_PER_BLOCK, LOGITS_PER_BLOCK // len(tables[0]))
        query_grads = []
        loss = query.new_zeros(())
        for q, t in zip(query.detach().split(rows), target.unsqueeze(1).split(rows)):
            q.requires_grad_(query_needed)
            with torch.enable_grad():
                logits = score(q, *tables)
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
