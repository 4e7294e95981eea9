r"""The split that item features have seen: those of an encoder that was tuned on training events.

Such features know which items follow each other in the training part. They may only be used with
a split whose training part has the same events; otherwise the encoder may have seen a validation or
test target.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from recbole_mm.data.errors import DatasetError
from recbole_mm.tools.hashing import sha256_of_parts
from recbole_mm.tools.json_files import fits

SETTINGS = (
    "eval_args", "tie_order", "held_out_items", "held_out_domains", "train_users", "exclude_users_of", "benchmark_filename", "rm_dup_inter",
    "val_interval", "user_inter_num_interval", "item_inter_num_interval", "filter_inter_by_user_or_item",
)  # fmt: skip
"""Keys that determine which events are the training part."""

TUNING = "tuning"
"""Key of a feature file's ``info``: the record of the tuning of its encoder."""

EVENTS_PER_CHUNK = 65536


def split_record(config, dataset: str, users: np.ndarray, items: np.ndarray) -> dict[str, Any]:
    """The identity of a training part.

    Args:
        config: configuration of the run; its :data:`SETTINGS` explain a difference.
        dataset: name of the data set.
        users: user token of each training event, ``(n,)`` text.
        items: item token of each training event. The order of the events does not matter, but
            repetitions do.

    Returns:
        ``dataset``, ``users`` and ``events`` (counts), ``sha256`` (of the events) and ``settings``, as
        JSON values.
    """
    return {
        "dataset": dataset,
        "users": len(np.unique(users)),
        "events": len(users),
        "sha256": sha256_of_parts(_sorted_events(users, items)),
        "settings": {key: config[key] for key in SETTINGS},
    }


def _sorted_events(users: np.ndarray, items: np.ndarray) -> Iterator[str]:
    _, user_rank = np.unique(users, return_inverse=True)
    _, item_rank = np.unique(items, return_inverse=True)
    order = np.lexsort((item_rank, user_rank))
    for start in range(0, len(order), EVENTS_PER_CHUNK):
        rows = order[start : start + EVENTS_PER_CHUNK]
        pairs = zip(users[rows].tolist(), items[rows].tolist(), strict=True)
        yield "".join(f"{user}\0{item}\0" for user, item in pairs)


def recorded_split(info: dict, where) -> dict[str, Any] | None:
    """The split that features have seen; ``None``: they have seen no interactions.

    Args:
        info: info of a feature file.
        where: path of the file, for the message.

    Raises:
        DatasetError: the record is damaged.
    """
    if TUNING not in info:
        return None
    split = info[TUNING].get("split") if isinstance(info[TUNING], dict) else None
    if not is_split_record(split):
        raise DatasetError(
            f"{where}: the record of the split that its encoder was tuned on is damaged; extract "
            f"the features again"
        )
    return split


def is_split_record(split: Any) -> bool:
    """Whether a JSON value has the form of a :func:`split_record`."""
    forms = {"dataset": str, "users": int, "events": int, "sha256": str, "settings": dict[str, Any]}
    return isinstance(split, dict) and all(
        key in split and fits(split[key], form) for key, form in forms.items()
    )


def refuse_other_split(where, seen: dict, current: dict, fix: str) -> None:
    """Refuse a training part whose events differ from those that an encoder was tuned on.

    Args:
        where: file that has seen the events, for the message.
        seen: :func:`split_record` of the tuning.
        current: :func:`split_record` of the run.
        fix: alternative fix, as the end of a sentence.

    Raises:
        DatasetError: the events differ. The message names the settings that differ.
    """
    if seen["sha256"] == current["sha256"]:
        return
    raise DatasetError(
        f"{where}: its encoder was tuned on {_in_words(seen)}, but the training part is now "
        f"{_in_words(current)}. Validation and test targets may be among the events that it has "
        f"seen. {_differences(seen, current)} Use the split of the tuning, tune the encoder on this "
        f"one (recbole-mm tune-encoder {current['dataset']} ...), or {fix}."
    )


def _in_words(split: dict) -> str:
    return f"{split['events']:,} events of {split['users']:,} users of {split['dataset']!r}"


def _differences(seen: dict, current: dict) -> str:
    before, now = seen["settings"], current["settings"]
    found = [
        f"{key}: {before.get(key)!s:.100} then, {now[key]} now"
        for key in now
        if before.get(key) != now[key]
    ]
    if found:
        return f"Different settings: {'; '.join(found)}."
    return "The settings are the same, so the interactions differ."
