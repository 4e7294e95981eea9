"""The k-core of interactions, streamed on disk while there are many."""

import errno
import os
import tempfile
from pathlib import Path
from typing import Literal

import polars as pl

from recbole_mm.tools.files import system_error_in
from recbole_mm.tools.path_patterns import pattern_of

EAGER_ROWS = 5_000_000
Repeats = Literal["keep", "first", "last"]


def on_disk(table: pl.LazyFrame, path) -> pl.LazyFrame:
    """The same table, streamed into a parquet file that later passes read.

    Raises:
        OSError: the disk is full.
    """
    try:
        table.sink_parquet(path)
    except pl.exceptions.PolarsError as error:
        if system_error_in(str(error)) == errno.ENOSPC:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    return pl.scan_parquet(pattern_of(path))


def core_of(
    interactions: pl.LazyFrame, user_core: int, item_core: int, repeats: Repeats, scratch
) -> tuple[pl.DataFrame, int]:
    """Iterated k-core, sorted by user and time; same-time events stay in the order of the file.

    Args:
        interactions: table from :func:`~recbole_mm.prepare.interactions.check_interactions`, of any
            size.
        user_core: minimum number of interactions per user; 0 or 1 for no limit.
        item_core: minimum number of interactions per item.
        repeats: treatment of a user's repeated interactions with one item, before counting:
            ``keep`` all of them, or only the ``first`` or ``last`` in time.
        scratch: folder for intermediate files.

    Returns:
        The interactions, and how many repeats were dropped (of users and items that might have
        been in the core with them).

    Note:
        Repeats only increase the counts, so cutting before dropping them removes nothing that the
        core holds. Large inputs are therefore first cut on disk, streamed, and finished in memory.
    """
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        smaller = _smaller(interactions, user_core, item_core, Path(folder))
        table = smaller.collect(engine="streaming")
    order = ["user_id", "timestamp", "row"] if "timestamp" in table.columns else ["user_id", "row"]
    table = table.sort(order)
    with_repeats = len(table)
    if repeats != "keep":
        table = table.unique(["user_id", "item_id"], keep=repeats, maintain_order=True)
    dropped, before = with_repeats - len(table), None
    while (user_core > 1 or item_core > 1) and before != len(table):
        before = len(table)
        table = _cut(table, user_core, item_core)
    return table.drop("row"), dropped


def _smaller(table: pl.LazyFrame, user_core: int, item_core: int, folder: Path) -> pl.LazyFrame:
    """Cut repeatedly on disk, until few rows are left or a cut removes hardly any."""
    turn = 0
    while user_core > 1 or item_core > 1:
        before = table.select(pl.len()).collect(engine="streaming").item()
        if before <= EAGER_ROWS:
            break
        table = on_disk(_cut(table, user_core, item_core), folder / f"{turn}.parquet")
        turn += 1
        if table.select(pl.len()).collect().item() > 0.9 * before:
            break
    return table


def _cut(table, user_core: int, item_core: int):
    for column, core in (("user_id", user_core), ("item_id", item_core)):
        if core > 1:
            enough = table.group_by(column).len().filter(pl.col("len") >= core)
            table = table.join(enough.select(column), on=column, how="semi")
    return table
