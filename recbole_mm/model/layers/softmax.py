r"""Cross entropy over many candidates without the matrix of all logits."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_PER_BLOCK = 4_000_000


def dot_product_cross_entropy(query: Tensor, candidates: Tensor, target: Tensor) -> Tensor:
    r"""Mean cross entropy of the logits ``query @ candidates.T``.

    Blocks of rows go through the softmax one after another, and their gradients are formed at once:
    memory beside the arguments and their gradients is that of one block, each logit is made once
    and stays in the cache.

    Args:
        query: ``(b, d)``.
        candidates: ``(n, d)``.
        target: ``(b,)`` int64 in ``[0, n)``.

    Returns:
        0-d, as :func:`torch.nn.functional.cross_entropy` of the logits; differentiable once. Under
        autocast it is computed in the wider dtype of the two.
    """
    dtype = torch.promote_types(query.dtype, candidates.dtype)
    with torch.autocast(query.device.type, enabled=False):
        return _DotProductCrossEntropy.apply(query.to(dtype), candidates.to(dtype), target)


class _DotProductCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, candidates, target):
        grad_query = torch.empty_like(query) if ctx.needs_input_grad[0] else None
        grad_candidates = torch.zeros_like(candidates) if ctx.needs_input_grad[1] else None
        loss = query.new_zeros(())
        rows = max(1, LOGITS_PER_BLOCK // len(candidates))
        for start in range(0, len(query), rows):
            block = slice(start, start + rows)
            q, t = query[block], target[block].unsqueeze(1)
            logits = q @ candidates.T
            highest = logits.amax(dim=1, keepdim=True)
            loss -= (logits.gather(1, t) - highest).sum()
            total = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
            loss += total.log().sum()
            if grad_query is None and grad_candidates is None:
                continue
            grad = logits.mul_(1 / (total * len(query)))
            grad.scatter_add_(1, t, torch.full_like(t, -1 / len(query), dtype=grad.dtype))
            if grad_query is not None:
                torch.mm(grad, candidates, out=grad_query[block])
            if grad_candidates is not None:
                grad_candidates.addmm_(grad.T, q)
        ctx.save_for_backward(grad_query, grad_candidates)
        return loss / len(query)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        grad_query, grad_candidates = ctx.saved_tensors
        return (
            None if grad_query is None else grad_query * grad,
            None if grad_candidates is None else grad_candidates * grad,
            None,
        )
