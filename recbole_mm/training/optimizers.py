"""The optimizer of a configuration."""

from collections.abc import Iterable
from fnmatch import fnmatch

import torch
from torch import nn

from recbole_mm.tools import processes
from recbole_mm.tools.errors import UserError, refuse_together
from recbole_mm.training.low_rank import Factors, LowRankSteps, with_factors

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}

ADAMS = ("adam", "adamw", "nadam")
FUSED = {
    "adam": ("cpu", "cuda"),
    "adamw": ("cpu", "cuda"),
    "sgd": ("cpu", "cuda"),
    "adagrad": ("cpu",),
}


def build_optimizer(config, model: nn.Module, **changes):
    """The optimizer of ``config['learner']`` over the trainable parameters.

    Args:
        config: ``learner``, ``learning_rate``, ``weight_decay``, ``no_weight_decay``,
            ``group_learning_rates``, ``gradient_accumulation_steps``, ``accumulation_mean``,
            ``clip_grad_norm``, ``enable_scaler``, ``sparse_id_updates``, ``lora_rank``.
        model: model whose parameters are trained.
        changes: ``params``, ``learner``, ``learning_rate`` or ``weight_decay`` to use instead.

    Raises:
        UserError: unknown learner; a pattern of ``no_weight_decay`` or ``group_learning_rates``
            matches nothing; settings are incompatible with ``sparse_id_updates`` or ``lora_rank``.
    """
    learner = changes.get("learner", config["learner"]).lower()
    if learner not in OPTIMIZERS:
        raise UserError(f"learner must be one of {sorted(OPTIMIZERS)}, not {learner!r}.")
    weight_decay = changes.get("weight_decay", config["weight_decay"])
    learning_rate = changes.get("learning_rate", config["learning_rate"])
    groups = changes.get("params") or parameter_groups(
        model,
        learning_rate,
        weight_decay,
        config["group_learning_rates"] or {},
        config["no_weight_decay"] or [],
    )
    steps = config["gradient_accumulation_steps"] or 1
    refused = {
        "enable_scaler: True": bool(config["enable_scaler"]),
        f"gradient_accumulation_steps {steps}": steps > 1,
    }
    if config["sparse_id_updates"]:
        return _with_sparse_rows(config, model, learner, groups, refused)
    fused = fused_on(torch.device(config["device"]).type, learner)
    factors: list[Factors] = []
    if config["lora_rank"]:
        refuse_together("lora_rank", refused)
        groups, factors = with_factors(model, groups, config["lora_rank"], config["seed"])
    optimizer = OPTIMIZERS[learner](groups, lr=learning_rate, weight_decay=weight_decay, **fused)
    if factors:
        return LowRankSteps(optimizer, factors)
    if steps == 1:
        return optimizer
    return AccumulatedSteps(optimizer, steps, mean=bool(config["accumulation_mean"]))


def trained_numbers(optimizer) -> int:
    """How many numbers an optimizer changes directly; for a matrix with low-rank changes, those of
    its factors."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return sum(p.numel() for p in parameters if p.requires_grad)


def fused_on(device: str, learner: str) -> dict[str, bool]:
    """The setting of a fused optimizer, if torch has one: its step is one pass over parameters,
    gradients and state, takes a third of the time and makes no copies of a parameter's size."""
    return {"fused": True} if device in FUSED.get(learner, ()) else {}


def _with_sparse_rows(config, model, learner: str, groups: list[dict], refused: dict[str, bool]):
    """Adam, and its sparse form for the tables of item IDs."""
    tables = {id(table) for table in model.id_tables()}
    dense, sparse = [], []
    for group in groups:
        own = [p for p in group["params"] if id(p) in tables]
        others = [p for p in group["params"] if id(p) not in tables]
        sparse += [{**group, "params": own}] if own else []
        dense += [{**group, "params": others}] if others else []
    refused = {
        **refused,
        f"learner: {learner}, as only {', '.join(ADAMS)} have a sparse form": learner not in ADAMS,
        "clip_grad_norm": bool(config["clip_grad_norm"]),
        "lora_rank": bool(config["lora_rank"]),
        "several processes": processes.size() > 1,
    }
    refuse_together("sparse_id_updates", refused)
    if not sparse or not dense:
        left = "no item IDs" if not sparse else "nothing but item IDs"
        raise UserError(
            f"sparse_id_updates: True, but freeze: {config['freeze']} leaves {left} to train. Set "
            f"sparse_id_updates: False."
        )
    if any(group["weight_decay"] for group in sparse):
        raise UserError(
            f"sparse_id_updates does not work with weight_decay {sparse[0]['weight_decay']} on the "
            f"ID embeddings, which changes every row. Add {list(model.item_tables)} to "
            f"no_weight_decay, or set weight_decay: 0."
        )
    rows = [{"params": group["params"], "lr": group["lr"]} for group in sparse]
    fused = fused_on(torch.device(config["device"]).type, learner)
    return JointOptimizer(OPTIMIZERS[learner](dense, **fused), torch.optim.SparseAdam(rows))


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    rates: dict[str, float],
    without_decay: Iterable[str],
) -> list[dict]:
    """Group trainable parameters by learning rate and weight decay.

    Args:
        model: model with the parameters.
        learning_rate: learning rate of parameters not in ``rates``.
        weight_decay: weight decay of parameters not in ``without_decay``.
        rates: glob pattern of names -> learning rate; the first match counts.
        without_decay: glob patterns of names of parameters without weight decay.

    Raises:
        UserError: a pattern matches nothing.
    """
    names = [name for name, _ in model.named_parameters()]
    for setting, patterns in (("no_weight_decay", without_decay), ("group_learning_rates", rates)):
        for pattern in patterns:
            if not any(fnmatch(name, pattern) for name in names):
                raise UserError(
                    f"{setting}: {pattern!r} does not match any parameter of {type(model).__name__}; "
                    f"names look like {names[0]!r}."
                )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            own = (rate for pattern, rate in rates.items() if fnmatch(name, pattern))
            free = any(fnmatch(name, pattern) for pattern in without_decay)
            key = (next(own, learning_rate), 0.0 if free else weight_decay)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


class JointOptimizer:
    """Two optimizers of different parameters that step together.

    Args:
        dense: optimizer of most parameters.
        sparse: optimizer of tables with sparse gradients: rows without a gradient, and their state,
            do not change.
    """

    def __init__(self, dense: torch.optim.Optimizer, sparse: torch.optim.Optimizer):
        self.dense, self.sparse = dense, sparse

    @property
    def param_groups(self) -> list[dict]:
        """Parameter groups of both optimizers."""
        return [*self.dense.param_groups, *self.sparse.param_groups]

    def zero_grad(self) -> None:
        """Clear the gradients."""
        self.dense.zero_grad()
        self.sparse.zero_grad()

    def step(self) -> None:
        """Take one step with each optimizer."""
        self.dense.step()
        self.sparse.step()

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters of which a step changes only some rows."""
        return [table for group in self.sparse.param_groups for table in group["params"]]

    def register_step_pre_hook(self, hook):
        """Call ``hook`` before each step changes the tables."""
        return self.sparse.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook):
        """Call ``hook`` after each step."""
        return self.sparse.register_step_post_hook(hook)

    def state_dict(self) -> dict:
        """States of both optimizers."""
        return {"dense": self.dense.state_dict(), "sparse": self.sparse.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.dense.load_state_dict(state["dense"])
        self.sparse.load_state_dict(state["sparse"])


class AccumulatedSteps:
    """An optimizer that takes one step for several batches, whose gradients add up.

    Args:
        optimizer: wrapped optimizer.
        steps: batches per step; :meth:`flush` takes the step of a shorter last group.
        mean: whether the sum of the gradients is divided by the number of batches (the released
            MMM4Rec does not divide it, which matters relative to an L2 penalty).
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
        """Take the pending step, if there is one."""
        if self.pending == 0:
            return
        if self.mean:
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        parameter.grad.div_(self.pending)
        self.optimizer.step()
        self.pending = 0
