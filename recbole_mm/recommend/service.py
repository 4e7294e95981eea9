"""What ``recbole-mm serve`` answers, on its page and over HTTP."""

import threading
from pathlib import Path
from typing import NamedTuple

from recbole_mm.recommend.catalog import CatalogError
from recbole_mm.recommend.explain import Reason, explain, with_modalities
from recbole_mm.recommend.query import Query
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.thumbnails import Thumbnails
from recbole_mm.tools.names import nearest

CHOICES = 1000
"""Number of items that can be chosen from a list; others are typed."""


class Recommended(NamedTuple):
    """The answer to a query.

    Attributes:
        recommended: the best items, best first.
        unknown: items of the history that were skipped, as they are not in the catalog.
    """

    recommended: list[Reason]
    unknown: list[str]


class Service:
    """A trained model with what the page shows of its items.

    Args:
        recommender: trained model with its items.
        pictures: folder of pictures; see :class:`~recbole_mm.recommend.thumbnails.Thumbnails`.
    """

    def __init__(self, recommender: Recommender, pictures: Path | None = None):
        self.recommender = recommender.with_titles()
        self.thumbnails = Thumbnails(recommender, pictures)
        catalog = self.recommender.catalog
        tokens = catalog.tokens.to_list()
        titles = [None] * len(tokens) if catalog.titles is None else catalog.titles.to_list()
        self.titles = dict(zip(tokens[1:], titles[1:], strict=True))
        self.by_title = {title.casefold(): t for t, title in self.titles.items() if title}
        self.model_name = type(recommender.model).__name__
        self.modalities = list(recommender.model.modalities)
        self.n_offered = int(catalog.offered[1:].sum())
        popular = catalog.popularity[1:].argsort(descending=True, stable=True)[:CHOICES]
        self.choices = [(self.label(tokens[int(i) + 1]), tokens[int(i) + 1]) for i in popular]
        self._of_some: tuple[tuple[str, ...], Recommender] = (
            tuple(self.modalities),
            self.recommender,
        )
        self._turn = threading.Lock()  # a model uses all cores for one answer

    def label(self, item: str) -> str:
        """The name of an item on the page."""
        title = self.titles.get(item)
        return f"{title} ({item})" if title else item

    def find(self, text: str) -> str | None:
        """The item that a text names by its ID or its title; ``None`` if there is none."""
        text = text.strip()
        return text if text in self.titles else self.by_title.get(text.casefold())

    def answer(self, query: Query) -> Recommended:
        """The best items after a history, with reasons.

        Raises:
            UserError: the query cannot be answered.
            RunFailed: the model gives values that are not numbers.
        """
        history = query.history or []
        found = [self.find(text) for text in history]
        unknown = [text for text, item in zip(history, found, strict=True) if item is None]
        if unknown and query.strict:
            raise self._unknown(unknown[0])
        items = [item for item in found if item is not None]
        times = query.times and [
            time for time, item in zip(query.times, found, strict=True) if item is not None
        ]
        modalities = self.modalities if query.modalities is None else query.modalities
        with self._turn:
            reasons = explain(
                self._with(tuple(modalities)),
                items,
                query.k,
                query.filter_seen,
                times,
                query.items,
                query.exclude,
                query.strict,
            )
        return Recommended(reasons, unknown)

    def _unknown(self, text: str) -> CatalogError:
        near = nearest(text, [token for _, token in self.choices])
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return CatalogError(f"no item {text[:60]!r} in the catalog.{hint}")

    def _with(self, modalities: tuple[str, ...]) -> Recommender:
        known, recommender = self._of_some
        if known != modalities:
            recommender = with_modalities(self.recommender, modalities)
            self._of_some = modalities, recommender
        return recommender
