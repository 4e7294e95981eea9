"""Import of RecBole modules without a package that they hardly use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def stand_ins(modules: dict[str, ModuleType]) -> Iterator[None]:
    """Let imports within the block return these modules, with or without the packages."""
    before = {name: sys.modules[name] for name in modules if name in sys.modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]
        sys.modules.update(before)
