r"""How events are divided into training, validation and test, and what each way leaks.

- ``leave_one_out``: the last event of a user is the test, the one before the validation;
- ``temporal``: the earliest 80 % of all events train, the next 10 % validate, the last 10 % test;
  events of one moment stay together;
- ``cold_start``: as leave_one_out, but a share of the items (``held_out_items``, by default 0.1)
  takes no part in training and validation; at test they are ranked among all items. A model whose
  softmax is over all items still has them among its negatives.
"""

from typing import NamedTuple

import numpy as np

from recbole_mm.config.errors import ConfigError

HELD_OUT_ITEMS = 0.1


class Protocol(NamedTuple):
    """A way to divide events.

    Attributes:
        overlay: keys of the configuration.
        description: what is done, in a sentence.
    """

    overlay: dict
    description: str


PROTOCOLS = {
    "leave_one_out": Protocol(
        {"eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full"}},
        "Leave-one-out: each user's last event is the test, the one before the validation.",
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
        "Global temporal split: the earliest 80 % of events train, the next 10 % validate, "
        "the last 10 % test.",
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
        ConfigError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"protocol {name!r}: known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def share_of_later_training(train_times: np.ndarray, test_times: np.ndarray) -> float:
    """How much of the training lies in the future of a test event, on average."""
    earlier = np.searchsorted(np.sort(train_times), test_times, side="right")
    return float(1 - earlier.mean() / len(train_times))


def leak_warning(protocol: str, later: float | None) -> str | None:
    """What the protocol leaks, in words; ``None`` when it leaks nothing.

    Args:
        protocol: its name.
        later: :func:`share_of_later_training`; ``None`` without times.
    """
    if protocol == "temporal":
        return None
    measured = ""
    if later is not None:
        measured = (
            f" Here {later:.0%} of the training events are later than a test event on average."
        )
    return (
        "Leave-one-out leaks the future: models train on events of other users that happened after "
        "the moment at which a recommendation is asked for, so they know what became popular."
        f"{measured} --protocol=temporal does not."
    )
