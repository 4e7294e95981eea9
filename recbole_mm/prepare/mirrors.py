"""Addresses of the Amazon reviews, and the data sets that they give; sends no request."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import urlsplit

from recbole_mm.tools.errors import UserError
from recbole_mm.tools.names import nearest
from recbole_mm.tools.yaml_files import read_yaml

SHIPPED = Path(__file__).with_name("mirrors.yaml")
VARIABLE = "RECBOLE_MM_MIRRORS"
LAYOUTS = (2014, 2018, 2023)
DEFAULT_LAYOUT = 2018
PORTS = {"http": 80, "https": 443}


class MirrorsError(UserError):
    """A mirrors file that cannot be used, or a data set that the mirrors do not have."""


class Source(NamedTuple):
    """What an Amazon data set is made from.

    Attributes:
        category: name in the collection.
        layout: year of the collection.
        reviews: addresses of the reviews, in the order in which they are tried.
        meta: addresses of the metadata, in the order in which they are tried.
    """

    category: str
    layout: int
    reviews: tuple[str, ...]
    meta: tuple[str, ...]


class Mirrors:
    """The addresses of a mirrors file, which override those of the package.

    Args:
        path: file like ``mirrors.yaml``; ``None``: the one that the environment variable
            RECBOLE_MM_MIRRORS names, if any.

    Raises:
        YamlFileError: the file cannot be read.
        MirrorsError: the file has an unknown key, or a value of the wrong kind.
    """

    def __init__(self, path=None):
        path = path or os.environ.get(VARIABLE)
        values = read_yaml(SHIPPED)
        if path:
            _lay_over(values, read_yaml(path), path)
        self.layouts: dict[int, dict[str, list[str]]] = values["layouts"]
        self.names: dict[str, dict] = values["names"]
        self.sha256: dict[str, str] = values["sha256"]
        addresses = [
            url for kinds in self.layouts.values() for k in ("reviews", "meta") for url in kinds[k]
        ]
        self.trusted_hosts = {*map(_host_and_port, addresses), *values["trusted_hosts"]}

    def source(self, name: str, layout: int | None = None) -> Source | None:
        """What the data set ``name`` is made from; ``None`` if it is not one of Amazon's.

        Args:
            name: short name or category.
            layout: year of the collection; ``None``: that of the short name, or 2018.
        """
        known = self.names.get(name, {"category": name, "layout": DEFAULT_LAYOUT})
        category, layout = known["category"], layout or known["layout"]
        addresses = self.layouts[layout]
        if category not in addresses["categories"]:
            return None
        reviews, meta = (
            tuple(url.replace("{category}", category) for url in addresses[kind])
            for kind in ("reviews", "meta")
        )
        return Source(category, layout, reviews, meta)

    def source_of_any_year(self, name: str) -> Source | None:
        """Like :meth:`source`, from the first collection that has it."""
        sources = (self.source(name, layout) for layout in (None, *self.layouts))
        return next((source for source in sources if source is not None), None)

    def require_source(self, name: str, layout: int | None = None) -> Source:
        """Like :meth:`source`, but never ``None``.

        Raises:
            MirrorsError: there is none; the message names similar ones.
        """
        source = self.source(name, layout)
        if source is not None:
            return source
        layout = layout or self.names.get(name, {}).get("layout", DEFAULT_LAYOUT)
        near = nearest(name, self.dataset_names(layout), 3, cutoff=0.5)
        others = [year for year in self.layouts if self.source(name, year)]
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        hint += f" It is in {', '.join(f'--layout={year}' for year in others)}." if others else ""
        category = self.names.get(name, {}).get("category", name)
        raise MirrorsError(
            f"{category!r} is not a category of the Amazon reviews of {layout}.{hint} The "
            f"categories of {layout} are {', '.join(self.layouts[layout]['categories'])}."
        )

    def dataset_names(self, layout: int = DEFAULT_LAYOUT) -> list[str]:
        """Short names and categories."""
        return [*self.names, *self.layouts[layout]["categories"]]


def file_name(url: str) -> str:
    """The name that the publishers gave the file at an address."""
    return PurePosixPath(urlsplit(url).path).name


def _host_and_port(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or PORTS.get(parts.scheme)}"


def _lay_over(values: dict, own: dict, path) -> None:
    """Merge a user's values into ours; lists of addresses and categories replace ours."""
    for key, value in own.items():
        where = f"mirrors file {path}: {key}"
        if key not in values:
            raise MirrorsError(f"{where}: unknown key; the keys are {', '.join(values)}.")
        _refuse_other_kind(value, values[key], where)
        if key == "layouts":
            for year, lists in value.items():
                _lay_over_layout(values["layouts"], year, lists, f"{where}: {year}")
        elif isinstance(value, dict):
            values[key] = values[key] | value
        else:
            values[key] = values[key] + value
    for name, known in values["names"].items():
        described = known if isinstance(known, dict) else {}
        category, layout = described.get("category"), described.get("layout")
        if not (isinstance(category, str) and category and layout in list(values["layouts"])):
            raise MirrorsError(
                f"mirrors file {path}: names: {name}: {known!r}; expected {{category: NAME, "
                f"layout: {' or '.join(map(str, values['layouts']))}}}."
            )


def _refuse_other_kind(value, ours, where: str) -> None:
    if isinstance(ours, dict):
        kind, fits = "`name: value` lines", isinstance(value, dict)
    else:
        kind = "a list of texts"
        fits = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
    if not fits:
        raise MirrorsError(f"{where}: {value!r}; expected {kind} as in {SHIPPED}.")


def _lay_over_layout(layouts: dict, year, lists, where: str) -> None:
    if year not in layouts:
        years = ", ".join(map(str, layouts))
        raise MirrorsError(f"{where}: unknown year; the layouts that can be read are {years}.")
    kinds = layouts[year]
    if not isinstance(lists, dict) or not set(lists) <= set(kinds):
        raise MirrorsError(f"{where}: expected lists called {', '.join(kinds)}, not {lists!r}.")
    for kind, entries in lists.items():
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise MirrorsError(f"{where}: {kind}: expected a list of texts, not {entries!r}.")
        for url in entries if kind != "categories" else ():
            if urlsplit(url).scheme not in PORTS or not file_name(url):
                raise MirrorsError(
                    f"{where}: {kind}: {url!r} is not the http or https address of a file."
                )
        kinds[kind] = entries
