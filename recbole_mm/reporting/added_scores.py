r"""Models whose scores are added.

The score of an item is the mean of the members' log-probabilities: the scores of TransitionGraph,
and of a model that is trained with a softmax, are logits. Counts and sums of similarities are not:
added to other scores they would outweigh them or vanish.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from recbole_mm.reporting.ranks import MASKED, TREATMENTS, Evaluation, rank_recorder
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import RunFailed
from recbole_mm.training.ranking import pieces


def mean_log_probability(scores: Sequence[Tensor]) -> Tensor:
    """The mean over members of the items' log-probabilities, ``(b, n)``.

    Args:
        scores: scores of each member, ``(b, n)``; ``-inf`` for an item that it never recommends. If
            another member recommends such an item, it counts as the last one of the member's list.
    """
    never = torch.stack([member == -torch.inf for member in scores])
    total = torch.zeros_like(scores[0])
    for member, out in zip(scores, never, strict=True):
        log_probability = member.log_softmax(dim=1)
        least = log_probability.masked_fill(out, torch.inf).amin(dim=1, keepdim=True)
        total += torch.where(out, least, log_probability)
    return (total / len(scores)).masked_fill(never.all(dim=0), -torch.inf)


def evaluate_added(runs: Sequence[Run]) -> dict[str, Evaluation]:
    """Rank the test targets by :func:`mean_log_probability`, by treatment of the seen items.

    Args:
        runs: the members; their data have the same test targets in the same order.

    Raises:
        RunFailed: the test targets differ.
    """
    evaluations, n_items = {}, runs[0].splits.test.dataset.item_num
    for run in runs:  # as trainer.evaluate does
        run.model.eval()
        run.trainer.tot_item_num = n_items
    for seen in TREATMENTS:
        recorder, evaluator = rank_recorder(runs[0], seen == MASKED)
        with torch.no_grad():
            for batches in zip(*(run.splits.test for run in runs), strict=True):
                parts = (pieces(batch, len(runs) * n_items) for batch in batches)
                for part in zip(*parts, strict=True):
                    _collect(runs, part, recorder.eval_batch_collect)
        metrics = evaluator.evaluate(recorder.get_data_struct())
        values = {name: float(value) for name, value in metrics.items()}
        evaluations[seen] = Evaluation(recorder.table(), values)
    return evaluations


def _collect(runs: Sequence[Run], batches: tuple, collect: Callable) -> None:
    scored = [
        run.trainer._full_sort_batch_eval(batch) for run, batch in zip(runs, batches, strict=True)
    ]
    interaction, _, row, item = scored[0]
    if any(not torch.equal(own_item, item) for *_, own_item in scored):
        raise RunFailed(
            "the models whose scores are added have their test targets in different orders"
        )
    collect(mean_log_probability([scores for _, scores, *_ in scored]), interaction, row, item)
