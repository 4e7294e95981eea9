"""Interactions and items as tables: read from any format, checked, filtered, written for RecBole.

Interactions have the columns ``user_id, item_id, rating, timestamp`` (the last two may be
absent), items ``item_id, title, brand, categories, description, image`` (all but the first may
be absent). Interactions stay lazy until the k-core has made them small.
"""

import contextlib
import json
import tempfile
from pathlib import Path

import polars as pl

from recbole_mm.data.interactions import YEAR_2100
from recbole_mm.prepare.fields import FIELD_TYPES, ITEM_FIELDS, SECONDS_PER_UNIT
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.files import whole_or_not

# pandas, and so RecBole, reads these cells as missing
MISSING_TOKENS = ["", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND"]
MISSING_TOKENS += ["1.#QNAN", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"]
EAGER_ROWS = 5_000_000
SEPARATORS = {".csv": ",", ".tsv": "\t"}
JSON_LINES = (".jsonl", ".ndjson")


def scan_table(path) -> pl.LazyFrame:
    """Open a csv, tsv, parquet or jsonl file without reading it."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    suffix = path.suffix.lower()
    if suffix in SEPARATORS:
        return pl.scan_csv(path, separator=SEPARATORS[suffix], infer_schema=False)
    if suffix in (".parquet", ".pq"):
        return pl.scan_parquet(path)
    if suffix in JSON_LINES:
        return pl.scan_ndjson(path, infer_schema_length=None)
    raise InputError(f"{path}: format '{suffix}' is unknown; use csv, tsv, parquet or jsonl.")


@contextlib.contextmanager
def reading(path):
    """Turn what polars says of a malformed table into an error that names the file, and the line
    of a text file that is broken."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        reason = _broken_line(Path(path)) or str(error).strip().partition("\n")[0]
        raise InputError(f"{path}: not a readable table: {reason}") from error


def _broken_line(path: Path) -> str | None:
    """What is wrong with the first line that is not UTF-8, or of a file of JSON lines no JSON."""
    is_json = path.suffix.lower() in JSON_LINES
    if not is_json and path.suffix.lower() not in SEPARATORS:
        return None
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number} is not in UTF-8 ({error}); save the file in that encoding."
            try:
                json.loads(text if is_json and text.strip() else "{}")
            except ValueError as error:
                return f"line {number} is no JSON ({error}); mend it, or get the file anew."
    return None


def pick_columns(table: pl.LazyFrame, columns: dict[str, str | None], path) -> pl.LazyFrame:
    """Take columns under our names.

    Args:
        table: any table.
        columns: our name -> the file's; ``None`` takes the column of our own name, if there is one.
        path: for the message.

    Raises:
        InputError: a named column is not in the file.
    """
    there = table.collect_schema().names()
    wanted = {ours: theirs or ours for ours, theirs in columns.items() if theirs or ours in there}
    absent = [theirs for theirs in wanted.values() if theirs not in there]
    if absent:
        fix = "Name the right ones on the command line (--user-column, --item-column, ...)."
        if len(there) == 1 and any(separator in there[0] for separator in ",;|\t"):
            fix = "Columns are separated by ',' in a .csv and by tabs in a .tsv."
        raise InputError(f"{path}: no column {absent}, the file has {there}. {fix}")
    return table.select(pl.col(theirs).alias(ours) for ours, theirs in wanted.items())


def check_interactions(
    table: pl.LazyFrame, path, time_unit: str = "s", drop_bad_rows: bool = False
) -> tuple[pl.LazyFrame, dict[str, int]]:
    """Give the columns their types: tokens, float32 rating, timestamp in unix seconds (float64).

    A rating or timestamp column that is empty throughout is left out. Rows keep their number in
    the column ``row``.

    Args:
        table: ``user_id, item_id[, rating][, timestamp]`` of any type.
        path: for the messages.
        time_unit: of numeric times, one of ``s, ms, us, ns``; dates and ISO texts need none.
        drop_bad_rows: leave bad rows out and count them, instead of refusing the file.

    Returns:
        The typed table, and how many bad rows it leaves out, by reason.

    Raises:
        InputError: no rows, or rows without user or item, with a rating or time that is no
            number, with negative times or times after the year 2100.
    """
    schema = table.collect_schema()
    typed = [pl.col(name).cast(pl.String).str.strip_chars() for name in ("user_id", "item_id")]
    if "rating" in schema:
        typed.append(_number("rating", schema["rating"]).cast(pl.Float32))
    if "timestamp" in schema:
        typed.append(_unix_seconds(table, time_unit))
    optional = [name for name in ("rating", "timestamp") if name in schema]
    given = [
        (pl.col(name).cast(pl.String).fill_null("").str.strip_chars() != "").alias(f"{name}_given")
        for name in optional
    ]
    typed = table.select(*typed, *given).with_row_index("row")

    reasons = {}
    for name in ("user_id", "item_id"):
        reasons[f"no {name}"] = pl.col(name).fill_null("") == ""
        reasons[f"{name} that RecBole reads as missing"] = pl.col(name).is_in(MISSING_TOKENS[1:])
    if "rating" in schema:
        reasons["rating is no number"] = pl.col("rating_given") & ~_finite("rating")
    if "timestamp" in schema:
        reasons["timestamp is no time"] = pl.col("timestamp_given") & ~_finite("timestamp")
        reasons["timestamp before 1970"] = pl.col("timestamp") < 0
        reasons["timestamp after 2100"] = pl.col("timestamp") > YEAR_2100
    counts = typed.select(
        pl.len(),
        *(pl.col(f"{name}_given").sum() for name in optional),
        *(bad.fill_null(False).sum().alias(reason) for reason, bad in reasons.items()),
    ).collect(engine="streaming")
    counts = counts.row(0, named=True)
    if counts["len"] == 0:
        raise InputError(f"{path}: no interactions; expected one row per user-item event.")

    keep = ["row", "user_id", "item_id"]
    for name in optional:
        if counts[f"{name}_given"] == 0:
            continue
        keep.append(name)
        reasons[f"no {name} (other rows have one)"] = ~pl.col(f"{name}_given")
        counts[f"no {name} (other rows have one)"] = counts["len"] - counts[f"{name}_given"]
    bad_rows = {reason: counts[reason] for reason in reasons if counts.get(reason, 0)}
    if bad_rows and not drop_bad_rows:
        reason = next(iter(bad_rows))
        example = typed.filter(reasons[reason]).select("row").head(1).collect().item()
        raw = table.slice(example, 1).collect().row(0, named=True)
        raise InputError(
            f"{path}: bad rows: {bad_rows} of {counts['len']}; the first with '{reason}' is row "
            f"{example + 1}: {raw}. Mend the file, name the unit of its times (--time-unit), or "
            f"leave such rows out with --drop-bad-rows."
        )
    for bad in reasons.values():
        typed = typed.filter(~bad.fill_null(False)) if bad_rows else typed
    return typed.select(keep), bad_rows


def on_disk(table: pl.LazyFrame, path) -> pl.LazyFrame:
    """The same table, streamed into a parquet file that later passes read."""
    table.sink_parquet(path)
    return pl.scan_parquet(path)


def core_of(
    interactions: pl.LazyFrame, user_core: int, item_core: int, repeats: str, scratch
) -> tuple[pl.DataFrame, int]:
    """Iterated k-core, sorted by user and time; same-time events stay in the order of the file.

    Args:
        interactions: as from :func:`check_interactions`, any size.
        user_core: fewest interactions of a user, 0 or 1 for no limit.
        item_core: fewest interactions of an item.
        repeats: what becomes of a user's repeated interactions with one item, before counting:
            ``keep`` them, or only the ``first`` or ``last`` in time.
        scratch: folder for intermediate files.

    Returns:
        The interactions, and how many repeats were dropped (of users and items that might have
        been in the core with them).

    Note:
        Repeats only add to the counts, so cutting before they go removes nothing that the core
        holds: large inputs are first cut on disk, streamed, and finished in memory.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        table, turn = interactions, 0
        while user_core > 1 or item_core > 1:
            smaller = Path(folder) / f"{turn}.parquet"
            before = table.select(pl.len()).collect(engine="streaming").item()
            if before <= EAGER_ROWS:
                break
            table, turn = on_disk(_cut(table, user_core, item_core), smaller), turn + 1
            if table.select(pl.len()).collect().item() > 0.9 * before:
                break
        table = table.collect(engine="streaming")
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


def write_interactions(path, interactions: pl.DataFrame) -> None:
    """Write ``.inter``: tab-separated, RecBole's header, absent columns left out."""
    _write_atomic_file(path, interactions)


def write_items(path, items: pl.DataFrame) -> None:
    """Write ``.item``: one row per item, white space in texts is one blank."""
    texts = [name for name in items.columns if name in ITEM_FIELDS]
    items = items.with_columns(clean_text(name) for name in texts)
    empty = [name for name in texts if items[name].fill_null("").eq("").all()]
    _write_atomic_file(path, items.drop(empty))


def clean_text(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all(r"\s+", " ").str.strip_chars()


def _write_atomic_file(path, table: pl.DataFrame) -> None:
    header = {name: f"{name}:{FIELD_TYPES[name]}" for name in table.columns}
    with whole_or_not(path) as temporary:
        table.rename(header).write_csv(temporary, separator="\t", float_scientific=False)


def _cut(table, user_core: int, item_core: int):
    for column, core in (("user_id", user_core), ("item_id", item_core)):
        if core > 1:
            enough = table.group_by(column).len().filter(pl.col("len") >= core)
            table = table.join(enough.select(column), on=column, how="semi")
    return table


def _number(name: str, dtype) -> pl.Expr:
    column = pl.col(name).str.strip_chars() if dtype == pl.String else pl.col(name)
    return column.cast(pl.Float64, strict=False)


def _finite(name: str) -> pl.Expr:
    return pl.col(name).is_finite().fill_null(False)


def _unix_seconds(table: pl.LazyFrame, unit: str) -> pl.Expr:
    """Dates by type, or texts, which are all numbers or all ISO dates as the first of them is."""
    column, dtype = pl.col("timestamp"), table.collect_schema()["timestamp"]
    if dtype == pl.String:
        text = column.str.strip_chars()
        first = table.select(text).filter(column != "").head(1).collect().to_series()
        if first.cast(pl.Float64, strict=False).null_count():
            zoned = text.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
            column, dtype = zoned, pl.Datetime("us", "UTC")
    if dtype.is_temporal():
        return column.dt.epoch("us") / 1e6
    return _number("timestamp", dtype) * SECONDS_PER_UNIT[unit]
