r"""Training of multi-modal recommenders: RecBole's trainer with a few of its seams filled."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from fnmatch import fnmatch

import torch
from recbole.evaluator import Collector
from recbole.trainer import Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from recbole_mm.config.plain import config_to_plain
from recbole_mm.tools import processes
from recbole_mm.tools.files import whole_or_not
from recbole_mm.training.averaging import WeightAverage

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}
METRICS_OF_RANKS = {"recall", "mrr", "ndcg", "hit", "precision", "map"}
METRICS_OF_LISTS = {
    "itemcoverage", "averagepopularity", "shannonentropy", "giniindex", "tailpercentage",
}  # fmt: skip
SCORES_PER_BLOCK = 400_000  # stay in a core's cache


class MultiModalTrainer(Trainer):
    """RecBole's :class:`Trainer` with

    - NAdam, and an error for a learner that does not exist;
    - parameters that no weight decay is applied to (``no_weight_decay``, glob patterns), and
      parameters with a learning rate of their own (``group_learning_rates``);
    - gradient accumulation (``gradient_accumulation_steps``, ``accumulation_mean``);
    - weights that are an average over the last steps (``ema_epochs``) wherever they are validated,
      tested and saved;
    - a hook before each epoch (``on_epoch_start`` of the model and of its data set);
    - the state before each epoch in a file, if one is named (``progress_file``), from which a
      killed run goes on as if it had not been killed;
    - several processes (:mod:`recbole_mm.tools.processes`): gradients are those of the common batch,
      every process ranks its share of the users, the first one writes;
    - ranking by counting instead of sorting;
    - checkpoints of plain data, written whole or not at all.
    """

    def __init__(self, config, model):
        super().__init__(config, model)
        self.eval_collector = RankCollector(config)
        self.progress_file = None
        self.parallel_loss = None
        if processes.size() > 1:
            self.parallel_loss = DistributedDataParallel(
                LossModule(model), broadcast_buffers=False, find_unused_parameters=True
            )
        self.history = []
        self.average = None
        self.steps_per_epoch = 1
        if config["ema_epochs"]:
            self.average = WeightAverage(model.parameters())
            self.optimizer.register_step_post_hook(self._take_step_in)

    def fit(self, *args, **kwargs):
        """See RecBole's; the model is left with its averaged weights."""
        results = super().fit(*args, **kwargs)
        if self.average:
            self.average.apply()
        return results

    def _take_step_in(self, *_):
        self.average.update(max(1.0, self.config["ema_epochs"] * self.steps_per_epoch))

    def _averaged(self):
        return self.average.applied() if self.average else nullcontext()

    def _valid_epoch(self, valid_data, show_progress=False):
        with self._averaged():
            return super()._valid_epoch(valid_data, show_progress)

    def _build_optimizer(self, **kwargs):
        """The optimizer of ``config['learner']`` over the trainable parameters.

        Raises:
            ValueError: unknown learner; a pattern of ``no_weight_decay`` or
                ``group_learning_rates`` that matches nothing;
                gradient accumulation together with RecBole's gradient scaler.
        """
        learner = kwargs.pop("learner", self.learner).lower()
        if learner not in OPTIMIZERS:
            raise ValueError(f"learner must be one of {sorted(OPTIMIZERS)}, not {learner!r}.")
        weight_decay = kwargs.pop("weight_decay", self.weight_decay)
        learning_rate = kwargs.pop("learning_rate", self.learning_rate)
        optimizer = OPTIMIZERS[learner](
            kwargs.pop("params", None) or self._parameter_groups(learning_rate, weight_decay),
            lr=learning_rate,
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
        if self.clip_grad_norm:
            raise ValueError(
                f"gradient_accumulation_steps {steps} does not work with clip_grad_norm, which "
                f"clips what has been added up after every batch. Leave one of them out."
            )
        return AccumulatedSteps(optimizer, steps, mean=bool(self.config["accumulation_mean"]))

    def _parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict]:
        """Trainable parameters by learning rate and weight decay."""
        rates = self.config["group_learning_rates"] or {}
        free = self.config["no_weight_decay"] or []
        names = [name for name, _ in self.model.named_parameters()]
        for key, patterns in (("no_weight_decay", free), ("group_learning_rates", rates)):
            for pattern in patterns:
                if not any(fnmatch(name, pattern) for name in names):
                    raise ValueError(
                        f"{key}: {pattern!r} matches no parameter of "
                        f"{type(self.model).__name__}; names look like {names[0]!r}."
                    )
        groups = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                own = (rate for pattern, rate in rates.items() if fnmatch(name, pattern))
                decay = 0.0 if any(fnmatch(name, pattern) for pattern in free) else weight_decay
                groups.setdefault((next(own, learning_rate), decay), []).append(parameter)
        return [
            {"params": parameters, "lr": rate, "weight_decay": decay}
            for (rate, decay), parameters in groups.items()
        ]

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        if self.progress_file:
            self._save_progress(train_data, epoch_idx)
        self.steps_per_epoch = math.ceil(
            len(train_data) / (self.config["gradient_accumulation_steps"] or 1)
        )
        self.model.on_epoch_start(epoch_idx)
        train_data._dataset.on_epoch_start(epoch_idx)
        loss_func = loss_func or self.parallel_loss
        loss = super()._train_epoch(train_data, epoch_idx, loss_func, show_progress)
        loss = processes.mean(loss, self.device)
        if isinstance(self.optimizer, AccumulatedSteps):
            self.optimizer.flush()
        return loss

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        if processes.is_first():
            with self._averaged(), whole_or_not(path) as temporary:
                torch.save(self._state(epoch), temporary)
        processes.barrier()
        if verbose:
            self.logger.info(f"Saving current: {path}")

    def _state(self, epoch: int) -> dict:
        return {
            "config": config_to_plain(self.config),
            "epoch": epoch,
            "cur_step": self.cur_step,
            "best_valid_score": float(self.best_valid_score),
            "state_dict": self.model.state_dict(),
            "other_parameter": self.model.other_parameter(),
            "optimizer": self.optimizer.state_dict(),
        }

    def _save_progress(self, train_data, epoch_idx: int) -> None:
        """Everything that the epoch depends on."""
        best = self.best_valid_result
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        state = self._state(epoch_idx - 1) | {
            "best_valid_result": best and {name: float(value) for name, value in best.items()},
            "average": self.average and self.average.state_dict(),
            "train_losses": self.train_loss_dict,
            "history": self.history,
            "shuffle": train_data.generator.get_state(),
            "random": processes.of_all((torch.get_rng_state(), cuda)),
        }
        if processes.is_first():
            with whole_or_not(self.progress_file) as temporary:
                torch.save(state, temporary)

    def resume_progress(self, train_data) -> None:
        """Go on from ``progress_file``."""
        state = torch.load(self.progress_file, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["state_dict"])
        self.model.load_other_parameter(state["other_parameter"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.start_epoch = state["epoch"] + 1
        self.cur_step = state["cur_step"]
        self.best_valid_score = state["best_valid_score"]
        self.best_valid_result = state["best_valid_result"]
        self.train_loss_dict = state["train_losses"]
        self.history = state["history"]
        train_data.generator.set_state(state["shuffle"])
        cpu, cuda = state["random"][processes.rank()]
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(cuda)
        self.logger.info(f"going on with epoch {self.start_epoch} from {self.progress_file}")


class LossModule(nn.Module):
    """The loss as a forward pass, weighed so that the mean of the processes' gradients is the
    gradient of the mean over all their targets."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, interaction) -> torch.Tensor:
        n_targets = self.model.n_targets(interaction)
        share = processes.mean_share(n_targets, interaction[self.model.ITEM_ID].device)
        return self.model.calculate_loss(interaction) * share


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

    def step(self) -> None:
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
    positive stands in the middle, which favours nobody. Metrics of the recommended lists
    (coverage, popularity, ...) get the lists as RecBole makes them; other metrics, and rows with
    several positives, are left to RecBole.
    """

    def __init__(self, config):
        super().__init__(config)
        self.counts_ranks = {
            m.lower() for m in config["metrics"]
        } <= METRICS_OF_RANKS | METRICS_OF_LISTS

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i):
        rows = torch.arange(len(scores_tensor), device=positive_u.device)
        if not self.counts_ranks or not torch.equal(positive_u, rows):
            super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
            return
        k = max(self.topk)
        if self.register.need("rec.items"):
            self.data_struct.update_tensor("rec.items", scores_tensor.topk(k, dim=1).indices)
        rank = rank_by_counting(scores_tensor, positive_i.to(scores_tensor.device))
        self.on_ranks(rank, scores_tensor)
        hits = rank.unsqueeze(1) == torch.arange(k, device=rank.device)
        n_positive = torch.ones(len(rank), 1, dtype=torch.int, device=rank.device)
        self.data_struct.update_tensor("rec.topk", torch.cat([hits.int(), n_positive], dim=1))

    def on_ranks(self, rank: torch.Tensor, scores: torch.Tensor) -> None:
        """Called with the 0-based ranks ``(b,)`` and the scores ``(b, n_items)`` of a batch."""

    def get_data_struct(self):
        struct = super().get_data_struct()
        if processes.size() > 1:
            for key, value in struct._data_dict.items():
                if key.startswith("rec."):
                    rows = value.to(self.config["device"])
                    struct._data_dict[key] = processes.gather_rows(rows)[0].cpu()
        return struct


def rank_by_counting(scores: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """0-based rank of one item per row: the number of better ones and half of the equal ones.

    The odd one of the equal ones counts as better for positive items of odd ids, as worse for the
    others, so that half places even out.

    Args:
        scores: ``(b, n)``.
        positive: ``(b,)`` column of the item.

    Returns:
        ``(b,)`` int. NaN counts against the item: another's as better, its own puts it behind
        every list.
    """
    own = scores.gather(1, positive.unsqueeze(1))
    worse, equal = _count(torch.lt, scores, own), _count(torch.eq, scores, own) - 1
    better = scores.shape[1] - 1 - worse - equal
    rank = better + torch.div(equal + positive % 2, 2, rounding_mode="floor")
    return rank.masked_fill(own.squeeze(1).isnan(), scores.shape[1])


def _count(relation: Callable, scores: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """In how many columns of its row a score has the relation to ``own`` ``(b, 1)``: ``(b,)`` int64.

    A sum of bools would convert them all to int64 first; in float32 counts are exact up to 2^24.
    """
    rows = max(1, SCORES_PER_BLOCK // scores.shape[1])
    holds = torch.empty_like(scores[:rows], dtype=torch.float32)
    counts = [
        relation(block, limit, out=holds[: len(block)]).sum(dim=1)
        for block, limit in zip(scores.split(rows), own.split(rows), strict=True)
    ]
    return torch.cat(counts).long()


def trainable_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
