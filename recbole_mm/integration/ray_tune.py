"""What RecBole's quick start wants of ray: ``tune.report``, and nothing else.

``from ray import tune`` stops the import of RecBole where ray is not installed, and takes seconds
where it is. Its call ``tune.report(**metrics)`` is that of ray 2.6; later releases take a dictionary.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


class Tune:
    """Takes the place of ``ray.tune`` in RecBole's quick start."""

    @staticmethod
    def report(**metrics) -> None:
        """Hand the metrics to Ray Tune, in a process that has imported it; each of its trials has."""
        tune = sys.modules.get("ray.tune")
        if tune is not None:
            tune.report(metrics)


@contextmanager
def instead_of_ray() -> Iterator[None]:
    """Within the block ``from ray import tune`` gives :class:`Tune`, whether ray is there or not."""
    before = {name: sys.modules[name] for name in ("ray",) if name in sys.modules}
    stand_in = ModuleType("ray")
    stand_in.tune = Tune  # type: ignore[attr-defined]
    sys.modules["ray"] = stand_in
    try:
        yield
    finally:
        del sys.modules["ray"]
        sys.modules.update(before)
