"""All numbers of a transfer report in one long table, for other programs."""

from collections.abc import Iterator

import polars as pl

from recbole_mm.reporting.statistics import Interval
from recbole_mm.transfer_report.summary import Block, Row

NUMBERS = {
    "table": pl.String, "target": pl.String, "train_users": pl.Float64,
    "held_out_items": pl.Float64, "start": pl.String, "metric": pl.String, "seen_items": pl.String,
    "seed": pl.Int64, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "deviation_over_seeds": pl.Float64, "p": pl.Float64, "p_holm": pl.Float64,
    "seeds": pl.Int64, "users": pl.Int64, "targets": pl.Int64,
}  # fmt: skip
"""Columns of :func:`numbers`."""


def numbers(blocks: list[Block], metric: str, seen: str, seeds: list[int]) -> pl.DataFrame:
    """Every number, columns :data:`NUMBERS`; values that a row does not have are null. Steps and
    seconds to a score have one row per seed, null if it is never reached."""
    records = [
        {"target": block.target, **block.condition._asdict(), "start": row.start, **record}
        for block in blocks
        for row in block.rows
        for record in _records(block, row, metric, seen, seeds)
    ]
    return pl.DataFrame(records, schema=NUMBERS)


def _records(block: Block, row: Row, metric: str, seen: str, seeds: list[int]) -> Iterator[dict]:
    tested = {"metric": metric, "seen_items": seen, "seeds": len(row.values)}
    tested |= {"users": block.users, "targets": block.targets}
    yield {
        "table": "metrics",
        **tested,
        **_span(row.interval),
        "deviation_over_seeds": row.deviation,
    }
    if row.comparison is not None:
        difference, p, corrected, _ = row.comparison
        yield {"table": "difference", **tested, **_span(difference), "p": p, "p_holm": corrected}
    elif row.difference is not None:
        yield {"table": "difference", **tested, **_span(row.difference)}
    for seed, value in zip(seeds, row.valid, strict=False):
        yield {"table": "validation", "metric": block.valid_metric, "seed": seed, "value": value}
    for times in row.reached:
        name = f"{times.share:.0%} of the best validation score of scratch"
        for what, values in (("steps", times.steps), ("seconds", times.seconds)):
            for seed, when in zip(seeds, values, strict=False):
                yield {"table": f"{what} to {name}", "seed": seed, "value": when}


def _span(interval: Interval) -> dict:
    return {"value": interval.value, "low": interval.low, "high": interval.high}
