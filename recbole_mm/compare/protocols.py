r"""How events are split into training, validation and test, and what each split leaks.

- ``leave_one_out``: the last event of a user is for test, the one before it for validation;
- ``temporal``: the earliest 80% of all events are for training, the next 10% for validation, the
  last 10% for test; events with the same time stay together;
- ``cold_start``: like leave_one_out, but a share of the items (``held_out_items``, by default 0.1)
  is excluded from training and validation; at test they are ranked among all items. A model with a
  softmax over all items still has them among its negatives.
"""

from typing import NamedTuple

import numpy as np

from recbole_mm.config.errors import ConfigError
from recbole_mm.reporting.conditions import LEAVE_ONE_OUT

HELD_OUT_ITEMS = 0.1


class Protocol(NamedTuple):
    """A way to split events.

    Attributes:
        overlay: keys of the configuration.
        description: one or two sentences for the report.
    """

    overlay: dict
    description: str


PROTOCOLS = {
    "leave_one_out": Protocol(
        {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}},
        LEAVE_ONE_OUT,
    ),
    "temporal": Protocol(
        {
            "eval_args": {
                "split": {"RS": [0.8, 0.1, 0.1]},
                "order": "TO",
                "group_by": "none",
                "mode": "full",
            }
        },
        "Global temporal split: the earliest 80% of events are for training, the next 10% for "
        "validation, the last 10% for test.",
    ),
    "cold_start": Protocol(
        {
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"},
            "held_out_items": HELD_OUT_ITEMS,
        },
        "Cold start: leave-one-out, with a share of the items (drawn once, the same for all) "
        "held out of training, validation and histories; at test they are among the candidates. "
        "(A softmax over all items has them among its negatives.)",
    ),
}


def find_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"--protocol={name}: must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def share_of_later_training(train_times: np.ndarray, test_times: np.ndarray) -> float:
    """Share of the training events that are later than a test event, on average."""
    earlier = np.searchsorted(np.sort(train_times), test_times, side="right")
    return float(1 - earlier.mean() / len(train_times))


LEAST_LEAK = 0.005
"""Share of later training events below which there is no warning: it would be shown as 0%."""


def leak_warning(protocol: str, later: float | None) -> str | None:
    """What the protocol leaks, as a sentence; ``None`` if it leaks nothing, or less than half a percent.

    Args:
        protocol: name of a protocol.
        later: :func:`share_of_later_training`; ``None`` without times.
    """
    if protocol == "temporal" or (later is not None and later < LEAST_LEAK):
        return None
    measured = ""
    if later is not None:
        measured = (
            f" Here {later:.0%} of the training events are later than a test event, on average."
        )
    return (
        "Leave-one-out leaks the future: models train on events of other users that happened after "
        "the time of the recommendation, so they know what became popular."
        f"{measured} --protocol=temporal does not leak."
    )
