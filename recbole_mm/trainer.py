r"""Training of multi-modal recommenders: RecBole's trainer with a few of its seams filled."""

import os
from fnmatch import fnmatch

import torch
from recbole.evaluator import Collector
from recbole.trainer import Trainer
from torch import nn

from recbole_mm.config import config_to_plain

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
RANK_METRICS = {"recall", "mrr", "ndcg", "hit", "precision", "map"}


class MultiModalTrainer(Trainer):
    """RecBole's :class:`Trainer` with

    - NAdam, and an error for a learner that does not exist;
    - parameters that no weight decay is applied to (``no_weight_decay``, glob patterns);
    - gradient accumulation (``gradient_accumulation_steps``, ``accumulation_mean``);
    - a hook before each epoch (``model.on_epoch_start``);
    - ranking by counting instead of sorting;
    - checkpoints of plain data, written whole or not at all.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.eval_collector = RankCollector(config)

    def _build_optimizer(self, **kwargs):
        """The optimizer of ``config['learner']`` over the trainable parameters.

        Raises:
            ValueError: unknown learner; a ``no_weight_decay`` pattern that matches nothing;
                gradient accumulation together with RecBole's gradient scaler.
        """
        learner = kwargs.pop("learner", self.learner).lower()
        if learner not in OPTIMIZERS:
            raise ValueError(f"learner must be one of {sorted(OPTIMIZERS)}, not {learner!r}.")
        weight_decay = kwargs.pop("weight_decay", self.weight_decay)
        optimizer = OPTIMIZERS[learner](
            kwargs.pop("params", None) or self._parameter_groups(weight_decay),
            lr=kwargs.pop("learning_rate", self.learning_rate),
            weight_decay=weight_decay,
        )
        steps = self.config["gradient_accumulation_steps"] or 1
        if steps == 1:
            return optimizer
        if self.enable_scaler:
            raise ValueError(
                f"gradient_accumulation_steps {steps} does not work with enable_scaler: True, "
                f"which rescales the gradients at every batch. Switch one of them off."
            )
        return AccumulatedSteps(optimizer, steps, mean=bool(self.config["accumulation_mean"]))

    def _parameter_groups(self, weight_decay: float) -> list[dict]:
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        patterns = self.config["no_weight_decay"] or []
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name, _ in self.model.named_parameters()):
                raise ValueError(
                    f"no_weight_decay: {pattern!r} matches no parameter of "
                    f"{type(self.model).__name__}; names look like {named[0][0]!r}."
                )
        free = [p for n, p in named if any(fnmatch(n, pattern) for pattern in patterns)]
        others = [p for n, p in named if not any(fnmatch(n, pattern) for pattern in patterns)]
        groups = [
            {"params": others, "weight_decay": weight_decay},
            {"params": free, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        self.model.on_epoch_start(epoch_idx)
        loss = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        if isinstance(self.optimizer, AccumulatedSteps):
            self.optimizer.flush()
        return loss

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        if not self.config["single_spec"] and self.config["local_rank"] != 0:
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        state = {
            "config": config_to_plain(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            torch.save(state, temporary)
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.remove(temporary)
        if verbose:
            self.logger.info(f"Saving current: {path}")


class AccumulatedSteps:
    """An optimizer that takes one step for several batches, whose gradients add up.

    Args:
        optimizer: the optimizer proper.
        steps: batches per step; :meth:`flush` takes the step of a shorter last group.
        mean: divide the sum of the gradients by the number of batches (the released MMM4Rec does
            not, which matters against an L2 penalty).
    """

    def __init__(self, optimizer: torch.optim.Optimizer, steps: int, mean: bool):
        self.optimizer, self.steps, self.mean = optimizer, steps, mean
        self.pending = 0

    def __getattr__(self, name):
        return getattr(self.optimizer, name)

    def zero_grad(self) -> None:
        if self.pending == 0:
            self.optimizer.zero_grad()

    def step(self, closure=None) -> None:
        self.pending += 1
        if self.pending == self.steps:
            self.flush()

    def flush(self) -> None:
        """Take the step that is due, if any."""
        if self.pending == 0:
            return
        if self.mean:
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.div_(self.pending)
        self.optimizer.step()
        self.pending = 0


class RankCollector(Collector):
    """RecBole's collector, which finds the rank of a row's only positive item by counting.

    An item of the same score as the positive one counts half: with scores that are all equal the
    positive stands in the middle, which favours nobody. Other metrics than rank metrics, and rows
    with several positives, are left to RecBole.
    """

    def __init__(self, config):
        super().__init__(config)
        self.only_ranks = {m.lower() for m in config["metrics"]} <= RANK_METRICS

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        rows = torch.arange(len(scores_tensor), device=positive_u.device)
        if not self.only_ranks or not torch.equal(positive_u, rows):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        rank = rank_by_counting(scores_tensor, positive_i.to(scores_tensor.device))
        k = max(self.topk)
        hits = rank.unsqueeze(1) == torch.arange(k, device=rank.device)
        n_positive = torch.ones(len(rank), 1, dtype=torch.int, device=rank.device)
        self.data_struct.update_tensor("rec.topk", torch.cat([hits.int(), n_positive], dim=1))


def rank_by_counting(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """0-based rank of one item per row: the number of better ones and half of the equal ones.

    Args:
        scores: ``(b, n)``.
        positive: ``(b,)`` column of the item.

    Returns:
        ``(b,)`` int, rounded down. NaN counts against the item: another's as better, its own puts
        it behind every list.
    """
    own = scores.gather(1, positive.unsqueeze(1))
    worse = (scores < own).sum(dim=1)
    equal = (scores == own).sum(dim=1) - 1
    better = scores.shape[1] - 1 - worse - equal
    rank = better + torch.div(equal, 2, rounding_mode="floor")
    return rank.masked_fill(own.squeeze(1).isnan(), torch.iinfo(torch.long).max)


def trainable_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
