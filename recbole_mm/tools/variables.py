"""Environment variables: settings of other packages that have no other way, and those of
torchrun."""

import os
from contextlib import contextmanager

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


def is_one_of_several() -> bool:
    """Whether torchrun has started this process together with others.

    Clusters set WORLD_SIZE in their containers too; LOCAL_RANK is set by the launcher of the
    processes.
    """
    return bool(os.environ.get("LOCAL_RANK")) and os.environ.get("WORLD_SIZE", "") not in ("", "1")


@contextmanager
def environment(values: dict[str, str | None]):
    """Set environment variables within the block; ``None`` unsets one."""
    before = {key: os.environ.get(key) for key in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: dict[str, str | None]) -> None:
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
