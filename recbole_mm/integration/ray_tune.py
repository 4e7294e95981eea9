"""The only part of ray that RecBole's quick start needs: ``tune.report``.

``from ray import tune`` makes the import of RecBole fail if ray is not installed, and takes seconds
if it is. RecBole calls ``tune.report(**metrics)`` as in ray 2.6; later releases take a dictionary.
"""

import sys
from contextlib import AbstractContextManager
from types import ModuleType

from recbole_mm.integration.stand_ins import stand_ins


class Tune:
    """Replaces ``ray.tune`` in RecBole's quick start."""

    @staticmethod
    def report(**metrics) -> None:
        """Pass the metrics to Ray Tune if this process has imported it, as each of its trials
        has."""
        tune = sys.modules.get("ray.tune")
        if tune is not None:
            tune.report(metrics)


def instead_of_ray() -> AbstractContextManager[None]:
    """Make ``from ray import tune`` return :class:`Tune` within the block, with or without ray."""
    package = ModuleType("ray")
    package.tune = Tune  # type: ignore[attr-defined]
    return stand_ins({"ray": package})
