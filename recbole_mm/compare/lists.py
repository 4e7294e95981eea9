r"""Recommendation lists of other tools, evaluated like the entries of a comparison.

A file is a table with one recommended item per row (``user``, ``item``, and ``rank`` from 1 or
``score``), or a TREC run (``.run``, ``.trec``).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from recbole_mm.compare.entries import ForeignLists
from recbole_mm.compare.runs import EntryRun
from recbole_mm.compare.settings import Settings
from recbole_mm.compare.worker import COSTS, PLAN, RANKS, RESULT
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import RunConfig
from recbole_mm.config.plain import config_to_plain
from recbole_mm.prepare.formats import FIXED
from recbole_mm.prepare.table_files import pick_columns, reading, scan_table
from recbole_mm.reporting.metrics import parse_metric
from recbole_mm.reporting.ranks import (
    CANDIDATES,
    LIST_LENGTH,
    MASKED,
    RankRecorder,
    write_table,
)
from recbole_mm.run.splits import load_dataset
from recbole_mm.tools.file_names import label_as_name
from recbole_mm.tools.hashing import sha256_of_file, sha256_of_parts
from recbole_mm.tools.records import write_record

TREC_COLUMNS = ("user", "Q0", "item", "rank", "score", "tag")
TREC_ENDINGS = (".run", ".trec")
COLUMNS = ("user", "item", "rank", "score")
OPTIONS = dict.fromkeys(COLUMNS, "a column of that name")


class Targets(NamedTuple):
    """The test targets that lists are evaluated on.

    Attributes:
        rows: ``user``, ``item``, ``history_length``.
        history: ``user``, ``item``: every event before the target.
        items: number of candidates.
    """

    rows: pl.DataFrame
    history: pl.DataFrame
    items: int


def read_lists(path: Path) -> pl.DataFrame:
    """The lists of a file: ``user``, ``item``, best first within a user.

    Raises:
        InputError: the file cannot be read or has no such columns.
        ConfigError: it has neither ``rank`` nor ``score``, values that are not numbers, or rows
            without a user or an item, or a user has a duplicate item or rank.
    """
    table = _read_trec(path) if path.suffix in TREC_ENDINGS else _read_table(path)
    order = next((name for name in ("rank", "score") if name in table.columns), None)
    if order is None:
        raise ConfigError(f"{path}: neither a column 'rank' nor a column 'score': {table.columns}")
    numbers = table[order].cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)
    wrong = table[order].filter(numbers.is_null() | numbers.is_nan())
    if len(wrong):
        raise ConfigError(
            f"{path}: rows whose {order} is not a number: {len(wrong):,}, e.g. {wrong[0]!r}"
        )
    table = table.with_columns(numbers.alias(order))
    _refuse_duplicates(table, "item", path)
    if order == "rank":
        _refuse_duplicates(table, "rank", path)
    # equal scores keep the order of the file
    ordered = table.sort(order, descending=order == "score", maintain_order=True)
    return ordered.select("user", "item")


def _read_table(path: Path) -> pl.DataFrame:
    with reading(path, FIXED):
        lists = scan_table(path, FIXED)
        names = lists.collect_schema().names()
        columns: dict[str, str | None] = {name: None for name in COLUMNS}
        for ours in ("user", "item"):
            columns[ours] = next((n for n in (ours, f"{ours}_id") if n in names), ours)
        table = pick_columns(lists, columns, path, OPTIONS, FIXED).collect()
    ids = [pl.col(name).cast(pl.String).str.strip_chars() for name in ("user", "item")]
    table = table.with_columns(ids)
    lacking = table.filter(pl.any_horizontal(pl.col("user", "item").is_null()))
    if len(lacking):
        user, item = lacking.select("user", "item").row(0)
        raise ConfigError(
            f"{path}: rows without a user or an item: {len(lacking):,}, the first with user {user!r} "
            f"and item {item!r}. Remove them"
        )
    return table


def _read_trec(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise ConfigError(f"{path}: the file does not exist")
    rows = []
    with open(path, encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            fields = line.split()
            if fields and len(fields) != len(TREC_COLUMNS):
                raise ConfigError(
                    f"{path}, line {number}: a line of a TREC run is `topic Q0 item rank score tag`, "
                    f"but this one has {len(fields)} fields"
                )
            rows.append(fields)
    table = pl.DataFrame([row for row in rows if row], schema=list(TREC_COLUMNS), orient="row")
    return table.select("user", "item", "rank")


def _refuse_duplicates(table: pl.DataFrame, column: str, path: Path) -> None:
    repeated = table.filter(pl.struct("user", column).is_duplicated())
    if len(repeated):
        user, value = repeated.select("user", column).row(0)
        raise ConfigError(f"{path}: user {user} has the {column} {value} twice")


def describe_targets(config: RunConfig) -> Targets:
    """The test targets of a configuration, and the earlier events of their users."""
    dataset = load_dataset(config)
    _, _, test = dataset.build()
    recorder = RankRecorder(config, test, mask_seen=False)
    users = np.asarray(dataset.field2id_token[dataset.uid_field]).astype(str)
    items = np.asarray(dataset.field2id_token[dataset.iid_field]).astype(str)
    user = users[test.inter_feat[test.uid_field].numpy()]
    rows = pl.DataFrame(
        {
            "user": user,
            "item": items[test.inter_feat[test.iid_field].numpy()],
            "history_length": recorder.history_length,
        }
    )
    if rows["user"].is_duplicated().any():
        raise ConfigError("--lists needs one test target per user: give --protocol=leave_one_out")
    events = [recorder.seen_by_row(row).numpy() for row in range(len(rows))]
    lengths = [len(part) for part in events]
    history = {"user": np.repeat(user, lengths), "item": items[np.concatenate(events)]}
    return Targets(rows, pl.DataFrame(history).unique(), dataset.item_num - 1)


def rank_lists(lists: pl.DataFrame, targets: Targets, mask_seen: bool) -> pl.DataFrame:
    """Ranks of the test targets, see :class:`~recbole_mm.reporting.ranks.Evaluation`.

    Args:
        lists: see :func:`read_lists`.
        targets: test targets; a target that is not in its user's list has the last rank.
        mask_seen: whether to remove the items of the history; the items below them move up.
    """
    if mask_seen:
        lists = _without_seen(lists, targets)
    rank = pl.int_range(1, pl.len() + 1).over("user")
    ranked = lists.with_columns(rank=rank)
    found = targets.rows.join(ranked, ["user", "item"], "left", maintain_order="left")
    heads = ranked.filter(pl.col("rank") <= LIST_LENGTH).group_by("user").agg("item")
    heads = heads.rename({"item": "recommended"})
    return found.join(heads, "user", "left", maintain_order="left").with_columns(
        pl.col("rank").fill_null(targets.items).cast(pl.Int64)
    )


def write_lists_run(lists: ForeignLists, settings: Settings, config: RunConfig) -> EntryRun:
    """Evaluate the lists and write their result like that of a run.

    Args:
        lists: label and file of the lists.
        settings: settings of the comparison.
        config: configuration of one of its entries.

    Raises:
        InputError: see :func:`read_lists`.
        ConfigError: see :func:`read_lists`; also if test users have no list, or the lists are
            shorter than the metrics require.
    """
    targets, table = describe_targets(config), read_lists(lists.path)
    _refuse_short_lists(lists, table, targets, settings)
    treatments = [CANDIDATES]
    if _reach_with_seen_items_left_out(lists, table, targets, settings):
        treatments.append(MASKED)
    seed = settings.seeds[0]
    identity = sha256_of_parts([sha256_of_file(lists.path), str(config["tie_order"])])
    name = f"{label_as_name(lists.label)}-lists-{identity[:10]}"
    run = EntryRun(lists.label, seed, settings.out / "runs" / name)
    parts = [
        rank_lists(table, targets, seen == MASKED).with_columns(seen=pl.lit(seen))
        for seen in treatments
    ]
    names = {"features": "all", "label": lists.label, "model": lists.label}
    ranks = pl.concat(parts).with_columns(
        *(pl.lit(value).alias(column) for column, value in names.items()), seed=pl.lit(seed)
    )
    columns = ("user", "item", "rank", "history_length", "recommended", "features", "seen", "label")
    run.folder.mkdir(parents=True, exist_ok=True)
    plan = {"label": lists.label, "config": config_to_plain(config), "lists": str(lists.path)}
    write_record(run.folder / PLAN, plan)
    write_table(ranks.select(*columns, "model", "seed"), run.folder / RANKS)
    record: dict = {
        **dict.fromkeys(COSTS), "history": [], "best_epoch": None, "environment": None,
        "n_items": targets.items, "metrics": {CANDIDATES: {}, MASKED: {}},
        RANKS: sha256_of_file(run.folder / RANKS),
    }  # fmt: skip
    write_record(run.folder / RESULT, record)
    return run


def _refuse_short_lists(
    lists: ForeignLists, table: pl.DataFrame, targets: Targets, settings: Settings
) -> None:
    users = targets.rows.select("user")
    without = users.join(table.select("user").unique(), "user", "anti")["user"]
    if len(without):
        raise ConfigError(
            f"{lists.path}: no list for {len(without):,} of the {len(users):,} test users, "
            f"e.g. {without[0]}"
        )
    longest = int(table["user"].value_counts()["count"].to_numpy().max())
    wanted = _longest_metric(settings)
    if longest < wanted:
        raise ConfigError(
            f"{lists.path}: the lists hold at most {longest} items, but the metrics need {wanted}: "
            f"give longer lists, or a smaller k in --topk and --metric"
        )


def _reach_with_seen_items_left_out(
    lists: ForeignLists, table: pl.DataFrame, targets: Targets, settings: Settings
) -> bool:
    """Whether every list without the items of the history has as many items as the metrics need, or
    all that exist. If not, and the report masks seen items, the lists are refused."""
    wanted = _longest_metric(settings)
    parts = {"left": _without_seen(table, targets), "seen": _seen(targets)}
    users = targets.rows.select("user")
    for name, part in parts.items():
        users = users.join(part.group_by("user").agg(pl.len().alias(name)), "user", "left")
    users = users.fill_null(0)
    most = pl.min_horizontal(wanted, targets.items - pl.col("seen").cast(pl.Int64))
    short = users.filter(pl.col("left") < most)["user"]
    if not len(short):
        return True
    message = (
        f"{lists.path}: without the items of the history, {len(short):,} lists have fewer than the "
        f"{wanted} items that the metrics need, e.g. the list of user {short[0]}"
    )
    if settings.mask_seen:
        raise ConfigError(f"{message}: give longer lists, or omit --mask_seen")
    print(f"warning: {message}: {lists.label} has no masked numbers; give longer lists")
    return False


def _without_seen(lists: pl.DataFrame, targets: Targets) -> pl.DataFrame:
    return lists.join(_seen(targets), ["user", "item"], "anti", maintain_order="left")


def _seen(targets: Targets) -> pl.DataFrame:
    """Items of the histories, except the targets themselves."""
    return targets.history.join(targets.rows.select("user", "item"), ["user", "item"], "anti")


def _longest_metric(settings: Settings) -> int:
    return max(parse_metric(name)[1] for name in [settings.metric, *_metrics(settings)])


def _metrics(settings: Settings) -> list[str]:
    return [f"NDCG@{k}" for k in settings.topk]
