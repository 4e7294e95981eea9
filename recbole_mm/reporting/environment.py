"""The software and hardware of a run."""

import os
import platform

import torch

from recbole_mm.run.identity import package_version, source_hash

PACKAGES = ("recbole_mm", "recbole", "torch", "numpy", "pandas", "polars", "scipy", "scikit-learn")


def environment(device: torch.device) -> dict[str, str]:
    """Versions, code and machine, by name."""
    used = {"Python": platform.python_version(), **{p: package_version(p) for p in PACKAGES}}
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    used["code of recbole_mm"] = source_hash()[:12]
    return used | {"machine": platform.platform(), "cores": str(os.cpu_count()), "GPU": gpu}
