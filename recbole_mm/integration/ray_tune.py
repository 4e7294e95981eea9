"""What RecBole's quick start wants of ray: ``tune.report``, and nothing else.

``from ray import tune`` stops the import of RecBole where ray is not installed, and takes seconds
where it is. Its call ``tune.report(**metrics)`` is that of ray 2.6; later releases take a dictionary.
"""

import sys
from contextlib import AbstractContextManager
from types import ModuleType

from recbole_mm.integration.stand_ins import stand_ins


class Tune:
    """Takes the place of ``ray.tune`` in RecBole's quick start."""

    @staticmethod
    def report(**metrics) -> None:
        """Hand the metrics to Ray Tune, in a process that has imported it; each of its trials has."""
        tune = sys.modules.get("ray.tune")
        if tune is not None:
            tune.report(metrics)


def instead_of_ray() -> AbstractContextManager[None]:
    """Within the block ``from ray import tune`` gives :class:`Tune`, whether ray is there or not."""
    package = ModuleType("ray")
    package.tune = Tune  # type: ignore[attr-defined]
    return stand_ins({"ray": package})
