"""What this package requires, according to its metadata, and what of it is installed."""

from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement

from recbole_mm.tools.extras import PACKAGE
from recbole_mm.tools.recbole_version import INSTALL

RECBOLE = Requirement("recbole==1.2.*")
"""Installed by a command of its own, so the metadata do not have it."""
CORE = (Requirement("torch"), Requirement("numpy"), Requirement("pandas"), Requirement("polars"))
"""What is looked at where the package is not installed, but run from a checkout."""
FOR_DEVELOPERS = ("dev", "docs")
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Modules of needed packages that have other names than on PyPI."""


class Package(NamedTuple):
    """A required package.

    Attributes:
        name: on PyPI.
        needed: versions that fit, as in ``>=2.6``; empty: any.
        version: installed, ``None``: it is not.
        install: the command that installs it.
    """

    name: str
    needed: str
    version: str | None
    install: str

    @property
    def module(self) -> str:
        """The name by which it is imported."""
        return IMPORTED_AS.get(self.name, self.name)

    @property
    def problem(self) -> str | None:
        """Why it cannot be used, ``None`` if it can."""
        if self.version is None:
            return f"{self.name} is not installed: {self.install}"
        if not Requirement(f"{self.name}{self.needed}").specifier.contains(self.version, True):
            return (
                f"{self.name} {self.version} is installed, {self.needed} is needed: {self.install}"
            )
        return None


class Extra(NamedTuple):
    """An extra of this package.

    Attributes:
        name: of the extra.
        packages: that it adds.
    """

    name: str
    packages: list[Package]

    @property
    def install(self) -> str:
        return f"pip install '{PACKAGE}[{self.name}]'"

    @property
    def problems(self) -> list[str]:
        """Packages that are missing or of another version, in words."""
        return [
            f"{package.name} {package.version} ({package.needed} is needed)"
            if package.version
            else package.name
            for package in self.packages
            if package.problem
        ]


def needed_packages() -> list[Package]:
    """RecBole and everything else without which nothing works."""
    listed = [RECBOLE, *(_requirements() or CORE)]
    found = {each.name: each for each in listed if _applies(each, "")}
    found["recbole"] = RECBOLE
    return [_package(each) for each in found.values()]


def extras() -> list[Extra]:
    """The extras for users; none if this package is not installed."""
    names = dict.fromkeys(
        name
        for each in _requirements()
        if each.marker
        for name in str(each.marker).split('"')[1::2]
        if _applies(each, name) and not _applies(each, "")
    )
    return [
        Extra(name, [_package(each) for each in _requirements() if _only_with(each, name)])
        for name in sorted(names)
        if name not in FOR_DEVELOPERS
    ]


def _requirements() -> list[Requirement]:
    try:
        return [Requirement(line) for line in requires(PACKAGE) or []]
    except PackageNotFoundError:
        return []


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def _only_with(requirement: Requirement, extra: str) -> bool:
    return _applies(requirement, extra) and not _applies(requirement, "")


def _package(requirement: Requirement) -> Package:
    needed = str(requirement.specifier)
    try:
        found: str | None = version(requirement.name)
    except PackageNotFoundError:
        found = None
    install = f"pip install '{requirement.name}{needed}'"
    return Package(
        requirement.name, needed, found, INSTALL if requirement.name == "recbole" else install
    )
