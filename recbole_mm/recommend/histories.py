"""Histories of users by external ids, from a table of any format, in parts that fit into memory.

A table has one event per row (user, item and, optionally, times), or one history per row (user,
list of items, list of times). In a csv or tsv, a list is a cell of JSON (``["a", "b"]``) or of
items separated by blanks.
"""

import logging
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recbole_mm.prepare.interactions import as_tokens
from recbole_mm.prepare.table_files import reading
from recbole_mm.prepare.times import NAME_THEM, impossible_times, unix_seconds
from recbole_mm.recommend.disk import disk_errors
from recbole_mm.recommend.tables import (
    NAMES_OF_LISTS,
    SHOWN,
    USUAL,
    TableError,
    TableForm,
    column_of,
    open_table,
)
from recbole_mm.tools import processes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.path_patterns import pattern_of

KEPT = ("user", "row", "item_id", "time", "unknown")
logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """Histories of some users, one after the other.

    Attributes:
        users: external ids, ``(n_users,)``.
        lengths: number of events of each user with an item of the catalog, ``(n_users,)``.
        items: ids of the items, users one after the other, each in order, ``(lengths.sum(),)``.
        times: unix seconds of the same events; ``None`` without times.
    """

    users: pl.Series
    lengths: np.ndarray
    items: np.ndarray
    times: np.ndarray | None

    def latest(self, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
        """The latest events of some users, right-padded.

        Args:
            rows: rows of the users, ``(b,)``.
            length: maximum number of events per user.

        Returns:
            places in :attr:`items`, ``(b, w)``, 0 where there is none; their numbers, ``(b,)``.
        """
        end = np.cumsum(self.lengths)[rows]
        n = np.minimum(self.lengths[rows], length)
        position = np.arange(max(1, n.max(initial=0)))
        places = (end - n)[:, None] + position
        return np.where(position < n[:, None], places, 0), n

    def events_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All events of some users: the place of the user in ``rows``, and the item, ``(e,)`` each."""
        end = np.cumsum(self.lengths)[rows]
        n = self.lengths[rows]
        row = np.repeat(np.arange(len(rows)), n)
        place = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n) + np.repeat(end - n, n)
        return row, self.items[place]


@dataclass(frozen=True)
class Histories:
    """Users in their order, each with all events.

    Attributes:
        events: one row per event, ``place`` of the user (from 0), ``user``, ``row`` (the order of
            events without times), ``item_id`` (0: not in the catalog) and, if there are any, ``time``
            in unix seconds, and ``unknown``, the external id of an item that is not in the catalog.
            A user without events has a row whose ``item_id`` is null.
        n_users: number of users.
        origin: name of the table in messages.
        not_read: other columns of a table that has one event per row and no times; ``None``: the
            events have an order of their own.
    """

    events: pl.LazyFrame
    n_users: int
    origin: str
    not_read: tuple[str, ...] | None = None

    @property
    def has_time(self) -> bool:
        """Whether the events have times."""
        return "time" in self.events.collect_schema()

    def is_in_order_of_rows(self) -> bool:
        """Whether only the order of the table's rows is known of some user's events."""
        if self.not_read is None:
            return False
        of_user = self.events.group_by("place").agg(pl.col("item_id").count())
        most = of_user.select(pl.col("item_id").max()).collect(engine="streaming").item()
        return (most or 0) > 1

    def last_time(self) -> float:
        """Time of the latest event of these users; 0 without times or events."""
        if not self.has_time:
            return 0.0
        return self.events.select(pl.col("time").max()).collect().item() or 0.0

    def count_unknown(self) -> tuple[int, int]:
        """Events whose item is not in the catalog, and all events."""
        item = pl.col("item_id")
        counts = self.events.select((item == 0).sum(), item.count().alias("all"))
        return counts.collect(engine="streaming").row(0)

    def an_unknown_item(self) -> str | None:
        """External id of an item that is not in the catalog."""
        if "unknown" not in self.events.collect_schema():
            return None
        return self.events.select(pl.col("unknown").min()).collect(engine="streaming").item()

    def users(self) -> list[str]:
        """External ids of all users, in their order."""
        names = self.events.select("place", "user").unique().collect(engine="streaming")
        return names.sort("place")["user"].to_list()

    def users_without_items(self) -> list[str]:
        """External ids of users without an item of the catalog, in their order."""
        has_some = (pl.col("item_id") > 0).any()
        users = self.events.group_by("place").agg(pl.col("user").first(), has_some)
        without = users.filter(~pl.col("item_id")).collect(engine="streaming")
        return without.sort("place")["user"].to_list()

    def part(self, first: int, last: int) -> Part:
        """Users ``[first, last)``."""
        order = ["place", "time", "row"] if self.has_time else ["place", "row"]
        known = pl.col("item_id") > 0
        lists = [pl.col(name).filter(known) for name in order[1:-1] + ["item_id"]]
        users = (
            self.events.filter(pl.col("place").is_between(first, last - 1))
            .collect(engine="streaming")
            .sort(order)
            .group_by("place", maintain_order=True)
            .agg(pl.col("user").first(), *lists)
        )
        times = _flat(users["time"]).astype(np.float64) if self.has_time else None
        lengths = users["item_id"].list.len().to_numpy().astype(np.int64)
        return Part(users["user"], lengths, _flat(users["item_id"]).astype(np.int64), times)


def read_histories(
    source,
    tokens: pl.Series,
    form: TableForm = USUAL,
    users=None,
    scratch: Path | None = None,
    stored=None,
) -> Histories:
    """Histories of a table, with the catalog's ids in place of the items.

    Args:
        source: table of any format that recbole-mm prepare reads, or a polars or pandas frame.
        tokens: external ids of the catalog's items, ``(n_items,)``, the padding item first.
        form: columns and format of the table.
        users: external ids of the requested users, in their order, including those without a row in
            the table; of duplicates, the first one counts. ``None``: all users of the table, in the
            order of their first row.
        scratch: file for the events, which the first process writes and all read; ``None`` keeps
            them in memory.
        stored: data set, as for :func:`histories_of_dataset`, whose events of the same users come
            before those of the table; ``None``: no stored events.

    Raises:
        TableError: a column is missing, only one of table and ``stored`` has times, a row has no
            user or a malformed time, a user has two rows of lists, or the catalog has none of the
            items.
        InputError: the file cannot be read.
    """
    origin = str(source) if isinstance(source, (str, Path)) else "the frame of histories"
    if scratch is None:
        events, *facts = _read(source, tokens, form, users, origin, _in_memory, stored)
        return Histories(events, facts[0], origin, facts[1])

    def on_disk(events: pl.LazyFrame) -> None:
        with disk_errors(scratch):
            events.sink_parquet(scratch)

    facts = []
    if processes.is_first():
        _, *facts = _read(source, tokens, form, users, origin, on_disk, stored)
    n_users, not_read = processes.of_first(facts)
    return Histories(pl.scan_parquet(pattern_of(scratch)), n_users, origin, not_read)


def _in_memory(events: pl.LazyFrame) -> pl.LazyFrame:
    return events.collect(engine="streaming").lazy()


def _read(source, tokens: pl.Series, form: TableForm, users, origin: str, keep: Callable, stored):
    """The result of ``keep`` for the events, the number of users, and :attr:`Histories.not_read`."""
    ids = pl.LazyFrame({"item": tokens[1:], "item_id": np.arange(1, len(tokens), dtype=np.int32)})
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        reading(origin, form.text),
    ):
        table = open_table(source, form, folder)
        columns = _columns_of(table.collect_schema(), form, origin)
        events = _explode(table, columns, form, origin)
        _check_rows(events, origin)
        events = events.join(ids, on="item", how="left")
        known = pl.when(pl.col("item").is_not_null()).then(pl.col("item_id").fill_null(0))
        unknown = pl.when(known == 0).then(pl.col("item"))
        events = events.with_columns(item_id=known, unknown=unknown).drop("item")
        _refuse_other_catalog(events, tokens, origin)
        if stored is not None:
            if users is None:  # in the order of the table, which a join does not keep
                asked = events.group_by("user").agg(pl.col("row").min()).sort("row")
                users = asked.collect(engine="streaming")["user"].to_list()
            events = _after_stored(events, _events_of_dataset(stored, tokens), origin)
        placed, n_users = _placed(events, users)
        return keep(placed), n_users, columns.not_read


def _refuse_other_catalog(events: pl.LazyFrame, tokens: pl.Series, origin: str) -> None:
    """Refuse items of which the catalog has none: they are written differently, or are no items."""
    item = pl.col("item_id")
    counts = events.select((item > 0).sum().alias("known"), item.count())
    n_known, n_events = counts.collect(engine="streaming").row(0)
    if n_known or not n_events:
        return
    items = events.select(pl.col("unknown").drop_nulls().unique().sort())
    unknown = items.collect(engine="streaming").to_series()
    raise TableError(
        f"{origin}: the catalog has none of its {counted(len(unknown), 'item', 'items')}; they look like "
        f"{unknown[:SHOWN].to_list()}, those of the catalog like {tokens[1 : SHOWN + 1].to_list()}. "
        f"Write them like those of the catalog, or name another column with --item-column (in Python "
        f"TableForm(item=...)); new items are added with --new-items (in Python add_items)"
    )


def _after_stored(events: pl.LazyFrame, stored: pl.LazyFrame, origin: str) -> pl.LazyFrame:
    """The stored events of the same users, followed by the given events."""
    has_time = ["time" in each.collect_schema() for each in (events, stored)]
    if has_time[0] != has_time[1]:
        raise TableError(
            f"{origin} has {'times' if has_time[0] else 'no times'}, unlike the data set of the training, "
            f"so the events cannot be put in order: give both times, or omit --stored-events (in "
            f"Python stored_events=True)"
        )
    users = events.select("user").unique()
    n_stored = stored.select(pl.len()).collect().item()
    same = stored.join(users, on="user", how="semi")
    if all(has_time):
        events = _without_stored(events, same, origin)
    later = events.with_columns(row=pl.col("row") + n_stored)
    return pl.concat([same, later], how="diagonal_relaxed")


def _without_stored(events: pl.LazyFrame, stored: pl.LazyFrame, origin: str) -> pl.LazyFrame:
    """The events that are not among the stored ones, in user, item and time."""
    event = ["user", "item_id", "time"]
    again = events.join(stored, on=event, how="semi").select(pl.len())
    n_again = again.collect(engine="streaming").item()
    if n_again:
        logger.warning(
            f"{origin}: {counted(n_again, 'event is', 'events are')} in the data set of the training, "
            f"too (the same user, item and time), and counted once"
        )
    return events.join(stored, on=event, how="anti")


def histories_of_dataset(train, tokens: pl.Series, users=None) -> Histories:
    """All events of the users of a data set.

    Args:
        train: training split, a :class:`~recbole_mm.data.dataset.MultiModalDataset`.
        tokens: see :func:`read_histories`.
        users: see :func:`read_histories`.

    Raises:
        TableError: the data set has histories in its files, not events.
    """
    placed, n_users = _placed(_events_of_dataset(train, tokens), users)
    return Histories(placed.collect().lazy(), n_users, f"data set {train.dataset_name}")


def _events_of_dataset(train, tokens: pl.Series) -> pl.LazyFrame:
    """``user``, ``row``, ``item_id`` and, if there are any, ``time`` of all events."""
    _refuse_histories(train)
    events = train.events
    names = pl.Series([str(token) for token in train.field2id_token[train.uid_field]])
    own = [str(token) for token in train.field2id_token[train.iid_field]]
    id_of = {token: item for item, token in enumerate(tokens.to_list())}
    ids = np.array([id_of.get(token, 0) for token in own], dtype=np.int32)
    columns = {
        "user": names.gather(events[train.uid_field].numpy()),
        "row": np.arange(len(events), dtype=np.uint32),
        "item_id": ids[events[train.iid_field].numpy()],
    }
    if train.has_time:
        columns["time"] = events[train.time_field].numpy()
    return pl.LazyFrame(columns)


def _refuse_histories(train) -> None:
    if train.has_histories:
        raise TableError(
            f"data set {train.dataset_name}: its files hold histories of single targets; give the "
            f"histories to recommend for: --histories=FILE"
        )


class _Columns(NamedTuple):
    """The columns of a table of histories, and what a row is.

    Attributes:
        user: name of the column of users.
        item: name of the column of items.
        time: name of the column of times; ``None``: there is none.
        lists: whether a row is a whole history.
        not_read: see :class:`Histories`.
    """

    user: str
    item: str
    time: str | None
    lists: bool
    not_read: tuple[str, ...] | None


def _columns_of(schema: pl.Schema, form: TableForm, origin: str) -> _Columns:
    names = schema.names()
    user = column_of(names, "user", form, origin)
    item = column_of(names, "item", form, origin)
    has_time = form.time is not None or not {*names}.isdisjoint(form.recognized("time"))
    time = column_of(names, "time", form, origin) if has_time else None
    has_lists = isinstance(schema[item], pl.List)
    lists = has_lists or item in NAMES_OF_LISTS if form.lists is None else form.lists
    if has_lists and not lists:
        raise TableError(f"{origin}: column {item!r} has lists: a row is a whole history")
    others = tuple(name for name in names if name not in (user, item))
    return _Columns(user, item, time, lists, None if time or lists else others)


def _explode(table: pl.LazyFrame, columns: _Columns, form: TableForm, origin: str) -> pl.LazyFrame:
    """One row per event: ``user``, ``item``, ``row`` and, if there are any, ``time``."""
    user, item, time, lists, _ = columns
    schema = table.collect_schema()
    picked = [as_tokens(user, schema[user]).alias("user"), pl.col(item).alias("item")]
    picked += [pl.col(time).alias("timestamp")] if time else []
    table = table.select(picked).with_row_index("line")
    table = table.filter(~pl.all_horizontal(pl.exclude("line").is_null()))  # blank lines
    if lists:
        _refuse_duplicate_users(table, origin)
        table = _explode_lists(table, origin)
    token = as_tokens("item", table.collect_schema()["item"])
    table = table.with_columns(item=pl.when(token != "").then(token))
    if time:
        seconds = unix_seconds(table, origin, form.time_unit, form.time_format)
        table = table.with_columns(time=seconds).drop("timestamp")
    return table.with_row_index("row")


def _explode_lists(table: pl.LazyFrame, origin: str) -> pl.LazyFrame:
    schema = table.collect_schema()
    names = [name for name in ("item", "timestamp") if name in schema]
    table = table.with_columns(_as_list(name) for name in names if schema[name] == pl.String)
    if len(names) > 1:
        items, times = (pl.col(name).list.len().fill_null(0) for name in names)
        unequal = table.filter(items != times).select("line", items, times).head(1).collect()
        if len(unequal):
            row, n_items, n_times = unequal.row(0)
            raise TableError(
                f"{origin}: row {row + 1} has {counted(n_items, 'item', 'items')} and "
                f"{counted(n_times, 'time', 'times')}; each event needs both"
            )
    # a row without an event stays a row, in every version of polars
    not_empty = [pl.when(pl.col(name).list.len() > 0).then(pl.col(name)) for name in names]
    return table.with_columns(not_empty).explode(names)


def _as_list(name: str) -> pl.Expr:
    """Cells of JSON, or of words separated by blanks, as lists."""
    cell = as_tokens(name, pl.String())
    words = cell.str.extract_all(r"\S+")
    is_json = cell.str.starts_with("[")
    of_json = pl.when(is_json).then(cell).str.json_decode(pl.List(pl.String))
    return pl.when(is_json).then(of_json).otherwise(words).alias(name)


def _refuse_duplicate_users(table: pl.LazyFrame, origin: str) -> None:
    hashes = table.select(pl.col("user").hash()).collect(engine="streaming").to_series()
    if hashes.n_unique() == len(hashes):
        return
    again = table.group_by("user").len().filter(pl.col("len") > 1).sort("user")
    users = again.collect(engine="streaming")["user"].to_list()
    raise TableError(
        f"{origin}: {counted(len(users), 'duplicate user', 'duplicate users')}, e.g. {users[:SHOWN]}; "
        f"keep one row per user"
    )


def _check_rows(events: pl.LazyFrame, origin: str) -> None:
    bad = {"no user": pl.col("user").fill_null("") == ""}
    if "time" in events.collect_schema():
        is_time = pl.col("time").is_finite().fill_null(False)
        bad["no time that can be read"] = pl.col("item").is_not_null() & ~is_time
        impossible = impossible_times("time").items()
        bad |= {f"a time {reason}": is_time & is_bad for reason, is_bad in impossible}
    first = [pl.col("line").filter(is_bad).min().alias(reason) for reason, is_bad in bad.items()]
    found = events.select(pl.len(), *first).collect(engine="streaming").row(0, named=True)
    if found.pop("len") == 0:
        logger.warning(f"{origin}: no rows, so nobody has an event")
    for reason, line in found.items():
        if line is not None:
            fix = f", or {NAME_THEM}" if "time" in reason else ""
            raise TableError(
                f"{origin}: row {line + 1} has {reason}; correct it, or remove it{fix}"
            )


def _placed(events: pl.LazyFrame, users: Iterable[str] | None) -> tuple[pl.LazyFrame, int]:
    """Events with the place of their user, and the number of users."""
    kept = ["place", *(name for name in KEPT if name in events.collect_schema())]
    if users is not None:
        names = _distinct(users)
        places = names.lazy().with_row_index("place")
        # every user has a row, with or without events
        parts = [events.join(places, on="user", how="inner").select(kept), places]
        return pl.concat(parts, how="diagonal_relaxed"), len(names)
    # 128 bits of hash take less memory than millions of names, and do not collide
    keys = ["key_0", "key_1"]
    events = events.with_columns(pl.col("user").hash(i).alias(key) for i, key in enumerate(keys))
    first = events.group_by(keys).agg(pl.col("row").min()).collect(engine="streaming")
    first = first.sort("row").with_row_index("place")
    joined = events.join(first.lazy().select("place", *keys), on=keys, how="inner")
    return joined.select(kept), len(first)


def _distinct(users: Iterable[str]) -> pl.DataFrame:
    """The requested users in their order; of duplicates, the first one counts."""
    names = pl.DataFrame({"user": list(users)}, schema={"user": pl.String})
    distinct = names.unique(maintain_order=True)
    if len(distinct) < len(names):
        again = names.filter(names.is_duplicated())["user"][0]
        logger.warning(
            f"users: {counted(len(names) - len(distinct), 'duplicate', 'duplicates')}, e.g. of "
            f"{again!r}; each user gets one list"
        )
    return distinct


def _flat(lists: pl.Series) -> np.ndarray:
    """The concatenated values of lists."""
    return lists.explode().drop_nulls().to_numpy()
