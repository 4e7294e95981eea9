"""The software and hardware of a run."""

import os
import platform
from collections.abc import Iterable

import torch

from recbole_mm.run.identity import package_version, source_hash

PACKAGES = ("recbole_mm", "recbole", "torch", "numpy", "pandas", "polars", "scipy", "scikit-learn")


def environment(device: torch.device) -> dict[str, str]:
    """Versions, code and machine, by name."""
    used = {"Python": platform.python_version(), **{p: package_version(p) for p in PACKAGES}}
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    used["code of recbole_mm"] = source_hash()[:12]
    return used | {"machine": platform.platform(), "cores": str(os.cpu_count()), "GPU": gpu}


def by_environment(
    made: Iterable[tuple[dict[str, str] | None, str]],
) -> list[tuple[dict[str, str], list[str]]]:
    """Environments that differ, each with the labels of what was made with it.

    Args:
        made: the environment of each run, ``None`` if it is not known, and its label.
    """
    environments: list[tuple[dict[str, str], list[str]]] = []
    for environment_of_run, label in made:
        if environment_of_run is None:
            continue
        labels = next((ls for known, ls in environments if known == environment_of_run), None)
        if labels is None:
            environments.append((environment_of_run, [label]))
        elif label not in labels:
            labels.append(label)
    return environments
