"""Environment variables: the only way to some settings of other packages, and what torchrun says."""

import os
from contextlib import contextmanager

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


def is_one_of_several() -> bool:
    """Whether torchrun has started this process beside others.

    Clusters give their containers a WORLD_SIZE too; LOCAL_RANK comes from what starts the processes.
    """
    return bool(os.environ.get("LOCAL_RANK")) and os.environ.get("WORLD_SIZE", "") not in ("", "1")


@contextmanager
def environment(values: dict[str, str | None]):
    """Environment variables within the block; ``None`` unsets."""
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
