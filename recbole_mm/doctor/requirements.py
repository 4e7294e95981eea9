"""The requirements of this package, according to its metadata, and what is installed of them."""

from importlib.metadata import PackageNotFoundError, requires, version
from typing import NamedTuple

from packaging.requirements import Requirement

from recbole_mm.tools.extras import PACKAGE
from recbole_mm.tools.recbole_version import INSTALL

RECBOLE = Requirement("recbole==1.2.*")
"""RecBole is installed by a separate command, so the metadata do not list it."""
CORE = (Requirement("torch"), Requirement("numpy"), Requirement("pandas"), Requirement("polars"))
"""Packages to check if this package is not installed, but run from a checkout."""
FOR_DEVELOPERS = ("dev", "docs")
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
"""Module names of needed packages that differ from the names on PyPI."""


class Package(NamedTuple):
    """A required package.

    Attributes:
        name: name on PyPI.
        needed: version specifier, e.g. ``>=2.6``; empty if any version fits.
        version: installed version; ``None`` if it is not installed.
        install: command that installs it.
    """

    name: str
    needed: str
    version: str | None
    install: str

    @property
    def module(self) -> str:
        """The name under which it is imported."""
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
        name: name of the extra.
        packages: packages that it adds.
    """

    name: str
    packages: list[Package]

    @property
    def install(self) -> str:
        return f"pip install '{PACKAGE}[{self.name}]'"

    @property
    def problems(self) -> list[str]:
        """Packages that are missing or have a wrong version, in words."""
        return [
            f"{package.name} {package.version} ({package.needed} is needed)"
            if package.version
            else package.name
            for package in self.packages
            if package.problem
        ]


def needed_packages() -> list[Package]:
    """RecBole and all other mandatory packages."""
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
