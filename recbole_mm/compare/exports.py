r"""Export of a comparison for other programs: all numbers as csv, lists as TREC runs."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import polars as pl

from recbole_mm.compare.summary import Row, Summary
from recbole_mm.reporting.statistics import Interval
from recbole_mm.tools.file_names import label_as_name
from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.path_patterns import pattern_of

NUMBERS = {
    "table": pl.String, "entry": pl.String, "part": pl.String, "metric": pl.String,
    "seen_items": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64,
    "deviation_over_seeds": pl.Float64, "p": pl.Float64, "p_holm": pl.Float64,
    "seeds": pl.Int64, "users": pl.Int64, "targets": pl.Int64,
}  # fmt: skip
"""Columns of :func:`numbers`."""


def numbers(summary: Summary) -> pl.DataFrame:
    """Every number of the report in one long table, columns :data:`NUMBERS`; values that a row does
    not have are null."""
    return pl.DataFrame(list(_records(summary)), schema=NUMBERS)


def _records(summary: Summary) -> Iterator[dict]:
    settings = summary.settings
    treatments = ("masked", "candidates") if settings.mask_seen else ("candidates", "masked")
    for row in summary.rows:
        yield from _records_of_row(row, settings.metric, treatments)
    tested = {"metric": settings.metric, "seen_items": treatments[0]}
    for part in summary.slices:
        size = {"part": f"{part.kind}: {part.name}", "users": part.users, "targets": part.targets}
        for table, values in (("slice", part.values), ("slice difference", part.differences)):
            for label, interval in values.items():
                yield {"table": table, "entry": label, **tested, **size, **_span(interval)}
    for label, values in summary.knockouts.items():
        for features, interval in values.items():
            record = {"table": "knock-out", "entry": label, "part": features}
            yield {**record, **tested, **_span(interval)}


def _records_of_row(row: Row, tested: str, treatments: tuple[str, str]) -> Iterator[dict]:
    columns = ((row.means, row.deviations), (row.other_means, row.other_deviations))
    for treatment, (means, deviations) in zip(treatments, columns, strict=True):
        for metric, value in means.items():
            record = {"table": "metrics", "entry": row.label, "metric": metric, "value": value}
            record |= {"seen_items": treatment, "seeds": row.seeds}
            record["deviation_over_seeds"] = deviations[metric]
            if metric == tested and treatment == treatments[0]:
                record |= {"low": row.interval.low, "high": row.interval.high}
            yield record
    if row.against_baseline is not None:
        difference, p, corrected, _ = row.against_baseline
        record = {"table": "difference", "entry": row.label, "metric": tested, "p": p}
        record |= {"seen_items": treatments[0], "p_holm": corrected, "seeds": row.seeds}
        yield record | _span(difference)


def _span(interval: Interval) -> dict:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def entries_no_longer_reported(summary: Summary, path: Path) -> list[str]:
    """The entries in a file of :func:`write_numbers` that the summary does not have."""
    try:
        before = pl.read_csv(pattern_of(path), columns=["entry"], infer_schema=False)
    except (OSError, pl.exceptions.PolarsError):  # there is no such file, or it is not ours
        return []
    now = {row.label for row in summary.rows}
    return [name for name in before["entry"].unique(maintain_order=True) if name not in now]


def write_numbers(summary: Summary, path: Path) -> None:
    """Write :func:`numbers` as csv."""
    with whole_or_not(path) as temporary:
        numbers(summary).write_csv(temporary)


def write_trec(ranks: pl.DataFrame, folder: Path) -> list[Path]:
    """Write the lists as TREC runs, ``ENTRY-seedN.run``, and the targets as ``qrels.txt``.

    Args:
        ranks: ``label``, ``seed``, ``user``, ``item``, ``recommended``; a user may have several
            targets, whose topics are ``USER/1``, ``USER/2``, ...
        folder: folder for the files.

    Returns:
        the paths
    """
    ranks = ranks.with_columns(
        _without_blanks(pl.col("user")),
        _without_blanks(pl.col("item")),
        pl.col("recommended").list.eval(_without_blanks(pl.element())),
    )
    number = pl.int_range(pl.len()).over("label", "seed", "user") + 1
    several = ranks.select(pl.struct("label", "seed", "user").is_duplicated().any()).item()
    user = pl.format("{}/{}", "user", number) if several else pl.col("user")
    topics = ranks.with_columns(topic=user)
    paths: list[Path] = []
    taken: set[str] = set()
    for (label, seed), rows in topics.group_by(["label", "seed"], maintain_order=True):
        if not paths:
            qrels = rows.select("topic", iteration=pl.lit(0), item="item", relevance=pl.lit(1))
            paths.append(_write_columns(qrels, folder / "qrels.txt"))
        name = f"{label_as_name(str(label))}-seed{seed}"
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        lists = rows.select("topic", "recommended").explode("recommended")
        place = pl.int_range(pl.len()).over("topic") + 1
        lists = lists.select(
            "topic", q0=pl.lit("Q0"), item="recommended", rank=place, score=-place, tag=pl.lit(name)
        )
        paths.append(_write_columns(lists, folder / f"{name}.run"))
    return paths


def _without_blanks(text: pl.Expr) -> pl.Expr:
    escaped = text.str.replace_all("%", "%25", literal=True)
    for blank in (" ", "\t"):
        escaped = escaped.str.replace_all(blank, quote(blank), literal=True)
    return escaped


def _write_columns(table: pl.DataFrame, path: Path) -> Path:
    with whole_or_not(path) as temporary:
        table.write_csv(temporary, separator=" ", include_header=False, quote_style="never")
    return path
