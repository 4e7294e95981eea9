"""Environment variables, the only way to some settings of other packages."""

import os
from contextlib import contextmanager

GPU_VARIABLE = "CUDA_VISIBLE_DEVICES"


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
