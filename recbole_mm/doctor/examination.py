"""What an installation consists of, and what is wrong with it."""

import importlib
import os
import platform
import re
from importlib.util import find_spec
from typing import Any, NamedTuple

from recbole_mm import __version__
from recbole_mm.doctor.requirements import RECBOLE, Extra, Package, extras, needed_packages
from recbole_mm.tools.errors import first_line

NOT_CHECKED = "not checked, torch cannot be imported"
WHERE = re.compile(
    r""" \((?:[A-Za-z]:)?[/\\][^()]*\)|(?<![\w:/\\])(?:[A-Za-z]:)?[/\\](?:[^\s'"/\\]+[/\\])*"""
)
"""Matches the path of a module in parentheses, or the folders before the name of a file."""


class PatchState(NamedTuple):
    """A patch of RecBole.

    Attributes:
        name: name of the patch.
        problem: reason why it does not apply; ``None`` if it does.
        breaks: feature that does not work without it.
    """

    name: str
    problem: str | None
    breaks: str


class Examination(NamedTuple):
    """The state of an installation.

    Attributes:
        python: version and implementation.
        system: operating system and machine.
        recbole_mm: version of this package.
        packages: required packages.
        extras: extras for users, with their packages.
        device: default device of models.
        ssd_backend: backend that ``auto`` chooses.
        threads: number of torch threads, and what limits it.
        patches: states of the patches; ``None`` if they could not be checked.
        problems: reasons why this installation does not work; empty if it does.
    """

    python: str
    system: str
    recbole_mm: str
    packages: list[Package]
    extras: list[Extra]
    device: str
    ssd_backend: str
    threads: str
    patches: list[PatchState] | None
    problems: list[str]

    def to_plain(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return self._asdict() | {
            "packages": {package.name: package.version for package in self.packages},
            "extras": {
                extra.name: {
                    "packages": {package.name: package.version for package in extra.packages},
                    "problems": extra.problems,
                    "install": extra.install if extra.problems else None,
                }
                for extra in self.extras
            },
            "patches": None
            if self.patches is None
            else [patch._asdict() for patch in self.patches],
        }


def examine() -> Examination:
    """Check everything; a missing or broken part does not end the examination."""
    packages = needed_packages()
    problems = [package.problem for package in packages if package.problem]
    with_torch = _imports("torch", "torch", problems)
    for package in packages:
        if package.name != RECBOLE.name:  # RecBole is imported with its patches
            _imports(package.module, package.name, problems)
    device, backend, threads = _torch_facts() if with_torch else (NOT_CHECKED,) * 3
    patches = _patches(problems) if with_torch else None
    return Examination(
        f"{platform.python_version()} ({platform.python_implementation()})",
        f"{platform.system()} {platform.machine()}",
        __version__,
        packages,
        extras(),
        device,
        backend,
        threads,
        patches,
        problems,
    )


def _imports(module: str, name: str, problems: list[str]) -> bool:
    """Whether a module can be imported; if not, that is a problem of the package ``name``."""
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 a broken package may raise anything
        _add_import_problem(name, error, problems)
        return False
    return True


def _add_import_problem(name: str, error: Exception, problems: list[str]) -> None:
    known = (f"{name} is not installed", f"{name} cannot be imported")
    if not any(problem.startswith(known) for problem in problems):
        problems.append(f"{name} cannot be imported: {_without_paths(first_line(error))}")


def _without_paths(text: str) -> str:
    return WHERE.sub("", text)


def _torch_facts() -> tuple[str, str, str]:
    """Device, backend of the scan, and threads, in words."""
    import torch

    from recbole_mm.model.layers.backend import PACKAGES, SHORT

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    missing = [name for name in PACKAGES if find_spec(name) is None]
    why = f"{' and '.join(missing)} not installed" if missing else "the device is not CUDA"
    fused = device.type == "cuda" and not missing
    limit = os.environ.get("OMP_NUM_THREADS", "not set")
    return (
        _named(device),
        f"mamba_ssm for histories longer than {SHORT}" if fused else f"torch ({why})",
        f"{torch.get_num_threads()} on {os.cpu_count()} cores, OMP_NUM_THREADS: {limit}",
    )


def _named(device) -> str:
    import torch

    if device.type == "cpu":
        return f"cpu (torch {torch.__version__} finds no CUDA GPU)"
    try:
        torch.zeros(1, device=device)
        return f"cuda ({torch.cuda.device_count()} x {torch.cuda.get_device_name()})"
    except (RuntimeError, AssertionError) as error:
        return f"cuda, but it cannot be used ({_without_paths(first_line(error))})"


def _patches(problems: list[str]) -> list[PatchState] | None:
    """Every patch of RecBole, or ``None`` if RecBole cannot be imported at all."""
    if not _imports("recbole_mm.integration.patch_list", "recbole", problems):
        return None
    from recbole_mm.integration.patch_list import AFTER_IMPORT, BEFORE_IMPORT, PatchError

    listed = (*BEFORE_IMPORT, *AFTER_IMPORT)
    try:
        importlib.import_module("recbole")
    except PatchError as error:
        found: dict[str, str | None] = {
            each.patch.name: _without_paths(each.reason) for each in error.failures
        }
    except Exception as error:  # noqa: BLE001 RecBole and its packages may raise anything
        _add_import_problem("recbole", error, problems)
        return None
    else:
        found = {patch.name: patch.problem() for patch in listed}
    states = [PatchState(patch.name, found.get(patch.name), patch.breaks) for patch in listed]
    problems += [
        f"the patch {state.name} does not apply: {state.problem}; it is needed for {state.breaks}"
        for state in states
        if state.problem
    ]
    return states
