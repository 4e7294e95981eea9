"""The optimizer of a configuration."""

from collections.abc import Iterable
from fnmatch import fnmatch

import torch
from torch import nn

from recbole_mm.tools.errors import UserError

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "nadam": torch.optim.NAdam,
    "sgd": torch.optim.SGD,
    "adagrad": torch.optim.Adagrad,
    "rmsprop": torch.optim.RMSprop,
}


def build_optimizer(config, model: nn.Module, enable_scaler: bool = False, **changes):
    """The optimizer of ``config['learner']`` over the trainable parameters.

    Args:
        config: ``learner``, ``learning_rate``, ``weight_decay``, ``no_weight_decay``,
            ``group_learning_rates``, ``gradient_accumulation_steps``, ``accumulation_mean``,
            ``clip_grad_norm``.
        model: whose parameters are trained.
        enable_scaler: whether RecBole's gradient scaler is on.
        changes: ``params``, ``learner``, ``learning_rate`` or ``weight_decay`` in place of these.

    Raises:
        UserError: unknown learner; a pattern of ``no_weight_decay`` or ``group_learning_rates``
            that matches nothing; gradient accumulation with the scaler or with clipping.
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
    optimizer = OPTIMIZERS[learner](groups, lr=learning_rate, weight_decay=weight_decay)
    steps = config["gradient_accumulation_steps"] or 1
    if steps == 1:
        return optimizer
    if enable_scaler:
        raise UserError(
            f"gradient_accumulation_steps {steps} does not work with enable_scaler: True, which "
            f"rescales the gradients at every batch. Switch one of them off."
        )
    if config["clip_grad_norm"]:
        raise UserError(
            f"gradient_accumulation_steps {steps} does not work with clip_grad_norm, which clips "
            f"the sum so far after every batch. Leave one of them out."
        )
    return AccumulatedSteps(optimizer, steps, mean=bool(config["accumulation_mean"]))


def parameter_groups(
    model: nn.Module,
    learning_rate: float,
    weight_decay: float,
    rates: dict[str, float],
    without_decay: Iterable[str],
) -> list[dict]:
    """Trainable parameters by learning rate and weight decay.

    Args:
        model: whose parameters.
        learning_rate: of those that ``rates`` does not name.
        weight_decay: of those that ``without_decay`` does not name.
        rates: glob pattern of names -> learning rate; the first that matches counts.
        without_decay: glob patterns of names.

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
