"""A request for recommendations, and the answer as tables, part by part."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from recbole_mm.data.event_times import YEAR_2100
from recbole_mm.recommend.catalog import Catalog, requested_ids
from recbole_mm.recommend.histories import Histories, Part, read_histories
from recbole_mm.recommend.ranking import BATCH_SIZE, Ranked, Ranker
from recbole_mm.recommend.tables import SHOWN, USUAL, TableError, TableForm
from recbole_mm.recommend.whole_scores import WholeScores
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.names import nearest

RESULT_COLUMNS = ("user", "item", "score", "rank", "source")
"""Columns of every result."""
SOURCES = ("model", "popular")
USERS_PER_PART = (16_384, 65_536)
"""Minimum and maximum: an interrupted run loses a part, and every part reads all histories."""
USUAL_PARTS = 64
ROWS_PER_PART = 4_000_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """A request for recommendations, except for the histories.

    Attributes:
        k: number of items per user.
        filter_seen: whether to exclude the items of a user's history.
        stored_events: whether to put the events of a user in the data set of the training before
            those of the histories.
        items: external ids of the items that may be recommended; ``None``: all of the catalog.
        exclude: external ids of items that are not recommended.
        candidates: items that each user may get: a table in any form that histories may have.
        users: external ids of the requested users, in their order, with or without a history;
            ``None``: all that have one.
        form: columns and format of histories and candidates.
        request_time: time of the request in unix seconds, for models that read it (``query_time:
            request``); ``None``: the time of the latest event of the requested users.
        strict: whether unknown items of histories, candidates, ``items`` and ``exclude`` are an
            error; otherwise they are skipped and reported.
        batch_size: histories per batch of the model; ``None``: as in evaluation.
        result_columns: other names for some of :data:`RESULT_COLUMNS`, ``title`` and ``image``.
        titles: whether to add the titles of the items.
        pictures: whether to add the paths of their pictures.

    Raises:
        UserError: a value is impossible.
    """

    k: int = 10
    filter_seen: bool = False
    stored_events: bool = False
    items: Iterable[str] | None = None
    exclude: Iterable[str] | None = None
    candidates: object = None
    users: Iterable[str] | None = None
    form: TableForm = USUAL
    request_time: float | None = None
    strict: bool = False
    batch_size: int | None = None
    result_columns: dict[str, str] = field(default_factory=dict)
    titles: bool = False
    pictures: bool = False

    def __post_init__(self):
        for name in ("k", "batch_size"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise UserError(f"{name} is {value!r}; it must be a whole number >= 1")
        for name in ("items", "exclude", "users"):
            value = getattr(self, name)
            if isinstance(value, (str, Path)):
                raise UserError(f"{name} is a text, {str(value)!r}; give a list of external ids")
            if value is not None:
                object.__setattr__(self, name, tuple(map(str, value)))
        if self.users == ():
            raise UserError("users: the list is empty; name at least one user")
        _refuse_impossible_time(self.request_time)
        known = (*RESULT_COLUMNS, "title", "image")
        unknown = sorted(self.result_columns.keys() - set(known))
        if unknown:
            raise UserError(f"result_columns: {unknown} are not among {', '.join(known)}")
        names = [self.result_columns.get(name, name) for name in known]
        if len(set(names)) < len(names):
            raise UserError(f"result_columns: two columns would have the same name in {names}")


def _refuse_impossible_time(time: float | None) -> None:
    if time is not None and not 0 <= time <= YEAR_2100:
        raise UserError(
            f"request_time is {time:.0f}, before 1970 or after 2100; give unix seconds, or a date"
        )


def request_of(**options) -> Request:
    """The :class:`Request` of some options.

    Raises:
        UserError: an option does not exist, or its value is impossible.
    """
    known = [field.name for field in fields(Request)]
    unknown = [name for name in options if name not in known]
    if unknown:
        near = nearest(unknown[0], known)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise UserError(f"no option {unknown[0]!r}{hint}; there are {', '.join(known)}")
    return Request(**options)


class Summary(NamedTuple):
    """Counts of an answer.

    Attributes:
        users: number of requested users.
        popular: number of those without a known item.
        short: number of those who got fewer than ``k`` items, as no more candidates were left.
    """

    users: int = 0
    popular: int = 0
    short: int = 0

    def __add__(self, other):
        return Summary(*(a + b for a, b in zip(self, other, strict=True)))

    def __str__(self) -> str:
        parts = [counted(self.users, "user", "users")]
        if self.popular:
            parts.append(f"{self.popular:,} without a known item got the most popular ones")
        if self.short:
            parts.append(f"{self.short:,} got fewer items than requested: no candidates were left")
        return "; ".join(parts)


class Answer:
    """The answer to a request, computed part by part.

    Args:
        model: trained model.
        catalog: items of the model.
        histories: users with their events.
        request: request to answer.
        details: ``title`` and ``image`` of the catalog's items, as far as they are requested.
        scratch: file for the candidates of users; ``None`` keeps them in memory.
        n_workers: number of workers that compute the parts; there are as many parts, or more.

    Attributes:
        n_parts: number of tables.

    Raises:
        UserError: no item is left to recommend, items are unknown although ``strict`` is set, or
            users have no candidates.
    """

    def __init__(
        self,
        model,
        catalog: Catalog,
        histories: Histories,
        request: Request,
        details: pl.DataFrame | None = None,
        scratch: Path | None = None,
        n_workers: int = 1,
    ):
        self.histories, self.request, self.details = histories, request, details
        _report_unknown_items(histories, request.strict, "events")
        _report_missing_times(model, histories)
        self.tokens = catalog.tokens
        self.candidates = None
        if request.candidates is not None:
            self.candidates = self._read_candidates(catalog, scratch)
        time = request.request_time
        self.request_time = histories.last_time() if time is None else time
        self.items, self.exclude = requested_ids(
            catalog, request.items, request.exclude, request.strict
        )
        self.rank_with(model, catalog)
        _report_short_lists(self.ranker)
        least, most = USERS_PER_PART
        usual = min(max(least, -(-histories.n_users // USUAL_PARTS)), most)
        share = -(-histories.n_users // n_workers)
        self.users_per_part = max(1, min(usual, ROWS_PER_PART // request.k, share))
        self.n_parts = max(1, -(-histories.n_users // self.users_per_part))

    def __getstate__(self) -> dict:
        """Everything except the model: another process opens it and calls :meth:`rank_with`."""
        return {name: value for name, value in self.__dict__.items() if name != "ranker"}

    def rank_with(self, model, catalog: Catalog) -> None:
        """Use this model with its items from now on."""
        request = self.request
        batch_size = request.batch_size or BATCH_SIZE
        if isinstance(model, WholeScores):
            batch_size = min(batch_size, model.users_at_once)
        self.ranker = Ranker(
            model,
            catalog,
            request.k,
            self.items,
            self.exclude,
            request.filter_seen,
            batch_size,
            self.request_time,
        )

    def part(self, number: int, progress=None) -> tuple[pl.DataFrame, Summary]:
        """The lists of some users, one item per row, users in their order, best items first.

        Args:
            number: number of the part, from 0 to ``n_parts - 1``.
            progress: function that is called with numbers of finished users.
        """
        first = number * self.users_per_part
        last = min(first + self.users_per_part, self.histories.n_users)
        part = self.histories.part(first, last)
        own = self.candidates.part(first, last) if self.candidates else None
        ranked = self.ranker.rank(part, own, progress)
        short = int((ranked.item_id[:, -1] == 0).sum())
        return self._table(part, ranked), Summary(len(part.users), int(ranked.popular.sum()), short)

    def _read_candidates(self, catalog: Catalog, scratch: Path | None) -> Histories:
        users = self.histories.users()
        given, form = self.request.candidates, self.request.form._replace(time=None)
        candidates = read_histories(given, catalog.tokens, form, users, scratch)
        _report_unknown_items(candidates, self.request.strict, "candidates")
        without = candidates.users_without_items()
        if without:
            raise TableError(
                f"{candidates.origin}: {counted(len(without), 'user has', 'users have')} no candidate "
                f"that the catalog knows, e.g. {without[:SHOWN]}; give each user some, or omit "
                f"these users"
            )
        return candidates

    def _table(self, part: Part, ranked: Ranked) -> pl.DataFrame:
        row, place = np.nonzero(ranked.item_id)
        item = ranked.item_id[row, place]
        source = pl.Series(SOURCES, dtype=pl.Enum(SOURCES))
        columns = {
            "user": part.users.gather(row),
            "item": self.tokens.gather(item),
            "score": ranked.score[row, place],
            "rank": (place + 1).astype(np.int32),
            "source": source.gather(ranked.popular[row].astype(np.int64)),
        }
        table = pl.DataFrame(columns)
        if self.details is not None:
            table = table.hstack(self.details[item])
        names = self.request.result_columns
        return table.rename({name: names[name] for name in table.columns if name in names})


class Workers(Protocol):
    """Workers that compute the parts of an answer."""

    @property
    def size(self) -> int:
        """Number of parts that are computed at once."""

    def compute(
        self, answer: Answer, numbers: list[int], progress
    ) -> Iterator[tuple[int, pl.DataFrame, Summary]]:
        """Some parts, in any order: number, table and summary; for ``progress`` see
        :meth:`Answer.part`."""


class ThisProcess:
    """Computes its parts one after another; under torchrun it is one of several processes."""

    @property
    def size(self) -> int:
        """Number of processes."""
        return processes.size()

    def compute(self, answer: Answer, numbers: list[int], progress):
        """See :meth:`Workers.compute`."""
        for number in numbers:
            yield number, *answer.part(number, progress)


def _report_unknown_items(histories: Histories, strict: bool, what: str) -> None:
    unknown, n_rows = histories.count_unknown()
    if not unknown:
        return
    example = histories.an_unknown_item()
    message = (
        f"{histories.origin}: the catalog does not have the items of {unknown:,} of {n_rows:,} {what}"
        f"{'' if example is None else f', e.g. {example!r}'}"
    )
    if strict:
        raise TableError(
            f"{message}; add them with --new-items (in Python add_items), or omit --strict (in "
            f"Python strict=True) to skip them"
        )
    logger.warning(f"{message}: they are skipped")


def _report_short_lists(ranker: Ranker) -> None:
    n_allowed, n_ranked, k = len(ranker.by_popularity), len(ranker.candidates), ranker.k
    if n_allowed < k:
        logger.warning(
            f"k is {k:,}, but there are only {counted(n_allowed, 'item', 'items')} to recommend: all "
            f"lists are shorter"
        )
    if n_ranked < min(k, n_allowed):
        logger.warning(
            f"k is {k:,}, but {type(ranker.model).__name__} can rank only {n_ranked:,} of the candidates: "
            f"the others have no features and no trained ID"
        )


def _report_missing_times(model, histories: Histories) -> None:
    if histories.is_in_order_of_rows():
        others = ", ".join(map(repr, histories.not_read or ()))
        fix = (
            f" If one of its other columns, {others}, has the times, name it with --time-column (in "
            f"Python TableForm(time=...))"
        )
        logger.warning(
            f"{histories.origin}: no times; the order of its rows is taken as the order of events."
            f"{fix if others else ''}"
        )
    if model.use_time and not histories.has_time:
        logger.warning(
            f"{histories.origin} has no times, which {type(model).__name__} reads (use_time: True): "
            f"every interval counts as 0 days"
        )
