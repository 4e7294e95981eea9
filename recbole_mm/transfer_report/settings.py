"""What a transfer report compares, and under which conditions."""

import math
from pathlib import Path
from typing import NamedTuple

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.values import parse_value
from recbole_mm.reporting.metrics import parse_metric
from recbole_mm.tools.counts import percent


class Condition(NamedTuple):
    """The part of a target that is used for training.

    Attributes:
        train_users: share of the users whose events are training targets.
        held_out_items: share of the items that are excluded from training; if there are any, only
            they are tested.
    """

    train_users: float = 1.0
    held_out_items: float = 0.0

    @property
    def overlay(self) -> dict:
        """The configuration keys that it sets, if any."""
        return {key: value for key, value in self._asdict().items() if value != getattr(ALL, key)}

    @property
    def text(self) -> str:
        """The condition in a few words."""
        if self.held_out_items:
            return f"new items, {percent(self.held_out_items)} held out"
        return "all users" if self.train_users == 1 else f"{percent(self.train_users)} of the users"


ALL = Condition()


class Settings(NamedTuple):
    """What is compared and how.

    Attributes:
        config_files: files of the stages.
        overrides: configuration keys for all stages.
        seeds: random seeds, one per run of a start.
        sizes: shares of the target's users that are trained on.
        new_items: share of the items for another test, on items that are excluded from training; 0:
            no such test.
        learning_rates: learning rates that each start tries with the first seed; empty: the
            configured one.
        steps: optimizer steps of each start; ``None``: those of the configured epochs on all users.
        metric: metric of tests and intervals.
        mask_seen: whether the items of the user's history are not candidates at test.
        out: folder of the report.
    """

    config_files: list[str]
    overrides: dict
    seeds: list[int]
    sizes: list[float]
    new_items: float
    learning_rates: list[float]
    steps: int | None
    metric: str
    mask_seen: bool
    out: Path

    @property
    def conditions(self) -> list[Condition]:
        """Shares of the users, the largest first, then new items."""
        sizes = [Condition(train_users=size) for size in sorted(self.sizes, reverse=True)]
        return sizes + [Condition(held_out_items=self.new_items)] * bool(self.new_items)


def parse_sizes(text: str) -> list[float]:
    """``--sizes``: shares of the users.

    Raises:
        ConfigError: a share is not in (0, 1] or is a duplicate, or 1 is missing.
    """
    sizes = _parse_numbers("--sizes", text, "shares of the users in (0, 1], e.g. 0.1,1", 1.0)
    if 1 not in sizes:
        raise ConfigError(f"--sizes={text}: add 1, all users, the reference for smaller sizes")
    return sizes


def parse_learning_rates(text: str | None) -> list[float]:
    """``--learning_rates``; empty without it.

    Raises:
        ConfigError: a learning rate is not positive, or is a duplicate.
    """
    if text is None:
        return []
    return _parse_numbers("--learning_rates", text, "numbers > 0, e.g. 3e-4,1e-3", math.inf)


def refuse_contradictions(settings: Settings) -> None:
    """Check the options.

    Raises:
        ConfigError: options exclude each other, a number is out of range, or the metric is unknown.
    """
    parse_metric(settings.metric)
    if not 0 <= settings.new_items < 1:
        raise ConfigError(f"--new_items={settings.new_items}: give a share of the items in [0, 1)")
    if settings.steps is not None and settings.steps < 1:
        raise ConfigError(f"--steps={settings.steps}: give a number >= 1")
    options = {
        "seed": "--seeds", "train_users": "--sizes", "held_out_items": "--new_items",
    }  # fmt: skip
    if settings.learning_rates:
        options["learning_rate"] = "--learning_rates"
    if settings.steps is not None:
        options["epochs"] = "--steps"
    for key, option in options.items():
        if key in settings.overrides:
            raise ConfigError(f"--{key}: give {option} instead")


def _parse_numbers(option: str, text: str, form: str, most: float) -> list[float]:
    value = parse_value(text)
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    plain = all(type(n) in (int, float) and 0 < n <= most and n < math.inf for n in numbers)
    if not plain or not numbers or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{option}={text}: give different {form}")
    return [float(n) for n in numbers]
