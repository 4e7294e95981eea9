"""The files of the Amazon collections of 2014, 2018 and 2023: reviews and metadata."""

import ast
import gzip
import html
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
from tqdm import tqdm

from recbole_mm.prepare.inputs import InputError, require_file
from recbole_mm.prepare.times import YEAR_1995, Times
from recbole_mm.tools.json_text import parse_json
from recbole_mm.tools.path_patterns import pattern_of

COLUMNS = ("user_id", "item_id", "rating", "timestamp")
"""Columns of the reviews in every layout."""

# columns of the ratings files, which have no header before 2023
CSV_COLUMNS = {
    2014: ("user_id", "item_id", "rating", "timestamp"),
    2018: ("item_id", "user_id", "rating", "timestamp"),
}
REVIEW_KEYS = {
    2014: ("reviewerID", "asin", "overall", "unixReviewTime"),
    2018: ("reviewerID", "asin", "overall", "unixReviewTime"),
    2023: ("user_id", "parent_asin", "rating", "timestamp"),
}
META_KEYS = {2014: ("asin",), 2018: ("asin",), 2023: ("parent_asin",)}
ITEM_COLUMNS = ("item_id", "title", "brand", "categories", "description", "url")
"""Columns of the metadata; ``url`` is the address of the first picture."""

TIME_UNIT = {2014: "s", 2018: "s", 2023: "ms"}
CHUNK_BYTES = 64 << 20
LONGEST_LINE = 64 << 20
LONGEST_LITERAL = 1 << 20
ASIN = r"^[0-9A-Z]{10}$"
LOOKED_AT = 1000
"""Number of lines that are searched for the keys of a file."""


def times_of(layout: int) -> Times:
    """How the reviews of a collection are dated."""
    fix = (
        f"name the year of the collection with --layout (reviews of {layout} have times in "
        f"{TIME_UNIT[layout]})"
    )
    return Times(TIME_UNIT[layout], since=YEAR_1995, fix=fix)


def scan_reviews(path, layout: int, scratch) -> pl.LazyFrame:
    """Reviews of any layout as a lazy table of :data:`COLUMNS`, in the order of the file.

    What polars cannot stream itself (compressed files, reviews as JSON) is first converted, piece
    by piece, to parquet files in ``scratch``.

    Args:
        path: ``.csv``, ``.json`` or ``.jsonl`` (one review per line), each also ``.gz``.
        layout: year of the collection, 2014, 2018 or 2023.
        scratch: folder for intermediate files.

    Raises:
        InputError: the file does not exist, is damaged, or has another layout.
    """
    path = Path(path)
    require_file(path, "Put it there, or add --download.")
    if not any(line.strip() for line in itertools.islice(_lines(path), 1)):
        raise InputError(f"{path}: it begins with an empty line or is empty. Download it again.")
    endings = [ending.lower() for ending in path.suffixes]
    is_csv, is_packed = ".csv" in endings, endings[-1] == ".gz"
    if is_csv and not is_packed:
        table = pl.scan_csv(pattern_of(path), **_csv_options(path, layout))
    else:
        if not is_csv:
            _check_keys(path, layout, REVIEW_KEYS)
        for number, part in enumerate(_tables(path, layout, is_csv)):
            part.write_parquet(Path(scratch) / f"reviews-{number:06d}.parquet")
        table = pl.scan_parquet(Path(pattern_of(scratch)) / "reviews-*.parquet")
    table = _review_columns(table, path, layout)
    _check_layout(table, path, layout)
    return table


def read_meta(path, wanted: set[str], layout: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Items of the metadata, one line at a time.

    Args:
        path: metadata, one item per line (JSON; Python literals in 2014), also ``.gz``.
        wanted: items to keep.
        layout: year of the collection.

    Returns:
        :data:`ITEM_COLUMNS`, each item once (its first line), and counts of repeated and
        unreadable lines.

    Raises:
        InputError: the file is empty, damaged, or its items lack the key of the layout.
    """
    _check_keys(path, layout, META_KEYS)
    (key,) = META_KEYS[layout]
    find = re.compile(rf"""['"]{key}['"]: *['"]([^'"]+)['"]""")
    rows, counts = {}, {"lines": 0, "repeated": 0, "unreadable": 0}
    for line in tqdm(_lines(path), Path(path).name, unit=" items", mininterval=5, disable=None):
        counts["lines"] += 1
        match = find.search(line)
        if match is None:
            counts["unreadable"] += bool(line.strip())
        elif match[1] in rows:
            counts["repeated"] += 1
        elif match[1] in wanted:
            item = _parsed(line)
            if item is None or item.get(key) != match[1]:
                counts["unreadable"] += 1
            else:
                rows[match[1]] = _item_row(match[1], item)
    return pl.DataFrame(list(rows.values()), dict.fromkeys(ITEM_COLUMNS, pl.String)), counts


def _tables(path: Path, layout: int, is_csv: bool) -> Iterator[pl.DataFrame]:
    options = _csv_options(path, layout) if is_csv else {}
    for chunk, is_first in _chunks(path):
        if is_csv:
            options["has_header"] = options["has_header"] and is_first
            part = pl.read_csv(chunk, **options)
            options["new_columns"] = part.columns
        else:
            user, item, rating, time = REVIEW_KEYS[layout]
            texts, numbers = (
                {user: pl.String, item: pl.String},
                {rating: pl.Float64, time: pl.Float64},
            )
            part = pl.read_ndjson(chunk, schema={**texts, **numbers})
        yield part


def _csv_options(path, layout: int) -> dict:
    has_header = "user_id" in next(_lines(path), "")
    if has_header:
        return {"has_header": True, "infer_schema": False}
    columns = CSV_COLUMNS.get(layout, CSV_COLUMNS[2014])
    return {"has_header": False, "infer_schema": False, "new_columns": list(columns)}


def _review_columns(table: pl.LazyFrame, path, layout: int) -> pl.LazyFrame:
    columns = table.collect_schema().names()
    if set(COLUMNS) <= set(columns):
        return table.select(COLUMNS)
    keys = REVIEW_KEYS[layout]
    if not set(keys) <= set(columns):
        raise InputError(f"{path}: {_other_layout(columns, layout, REVIEW_KEYS)}")
    return table.select(
        pl.col(theirs).alias(ours) for theirs, ours in zip(keys, COLUMNS, strict=True)
    )


def _check_keys(path, layout: int, keys: Mapping[int, tuple[str, ...]]) -> None:
    """Refuse records of another layout: without its keys, they would all be skipped.

    Raises:
        InputError: the file is empty, or none of its first records has all keys of the layout.
    """
    found: dict[str, None] = {}
    line = ""
    for line in itertools.islice(_lines(path), LOOKED_AT):
        found |= dict.fromkeys(_parsed(line) or {})
        if found.keys() >= set(keys[layout]):
            return
    if not line:
        raise InputError(f"{path}: it is empty. Download it again.")
    if not found:
        raise InputError(
            f"{path}: none of its first {LOOKED_AT} lines is a JSON record; the last is "
            f"{line.strip()[:80]!r}. Name another file, or download it again."
        )
    raise InputError(f"{path}: {_other_layout(list(found), layout, keys)}")


def _other_layout(found: list[str], layout: int, keys: Mapping[int, tuple[str, ...]]) -> str:
    fitting = [f"--layout={year}" for year, theirs in keys.items() if set(theirs) <= set(found)]
    fix = f"Add {' or '.join(fitting)}" if fitting else "No --layout fits: name another file"
    return f"its records have {found}, but --layout={layout} expects {list(keys[layout])}. {fix}."


def _check_layout(table: pl.LazyFrame, path, layout: int) -> None:
    """Refuse a file whose users look like items: the order of the columns differs by layout."""
    likeness = pl.col("user_id", "item_id").str.contains(ASIN).mean().fill_null(0.0)
    share = table.head(1000).select(likeness).collect().row(0, named=True)
    if share["user_id"] > 0.9 and share["item_id"] < 0.5:
        raise InputError(
            f"{path}: read as reviews of {layout}, {share['user_id']:.0%} of its first users are "
            f"item numbers; name the year of the collection with --layout."
        )


def _open(path):
    return (gzip.open if Path(path).suffix.lower() == ".gz" else open)(path, "rb")


def _lines(path) -> Iterator[str]:
    with _open(path) as file:
        while line := _read(file.readline, LONGEST_LINE, path):
            if len(line) == LONGEST_LINE:
                _refuse_long_line(path)
            yield line.decode("utf-8", "replace")


def _chunks(path) -> Iterator[tuple[io.BytesIO, bool]]:
    """Pieces of whole lines, each with whether it is the first."""
    with _open(path) as file:
        rest, is_first = b"", True
        while block := _read(file.read, CHUNK_BYTES, path):
            head, newline, tail = block.rpartition(b"\n")
            if newline:
                yield io.BytesIO(rest + head + newline), is_first
                rest, is_first = tail, False
            elif len(rest) + len(tail) > LONGEST_LINE:
                _refuse_long_line(path)
            else:
                rest += tail
        if rest:
            yield io.BytesIO(rest), is_first


def _read(read, size: int, path) -> bytes:
    try:
        return read(size)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: cut off or damaged ({error}). Download it again.") from error


def _refuse_long_line(path) -> None:
    raise InputError(
        f"{path}: a line is longer than {LONGEST_LINE >> 20} MB, so this is not a file of reviews "
        f"or metadata. Download it again."
    )


def _parsed(line: str) -> dict | None:
    try:
        item = parse_json(line)
    except ValueError:
        try:
            item = ast.literal_eval(line.strip()) if len(line) < LONGEST_LITERAL else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return item if isinstance(item, dict) else None


def _item_row(token: str, item: dict) -> dict[str, str | None]:
    # 2014: one or more category paths
    categories = dict.fromkeys(_texts(item.get("category") or item.get("categories")))
    title = _plain(item.get("title"))
    if title and "getTime" in title:  # a script that was scraped in place of the title
        title = None
    return {
        "item_id": token,
        "title": title,
        "brand": _plain(item.get("brand") or item.get("store")),
        "categories": _plain(", ".join(categories)),
        "description": _plain(item.get("description") or item.get("features")),
        "url": _picture_url(item),
    }


def _picture_url(item: dict) -> str | None:
    """The first picture: an address (2014), a list of them (2018), a list of sizes (2023)."""
    found = item.get("imUrl") or item.get("imageURLHighRes") or item.get("imageURL")
    found = found or item.get("image") or item.get("images") or None
    if isinstance(found, list):
        found = found[0]
    if isinstance(found, dict):
        found = found.get("large") or found.get("hi_res") or found.get("thumb")
    return " ".join(_texts(found)) or None


def _texts(value, depth: int = 0) -> Iterator[str]:
    """The texts and numbers in a value and its nested lists."""
    if isinstance(value, (list, tuple)) and depth < 3:
        for part in value:
            yield from _texts(part, depth + 1)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value).encode("utf-8", "ignore").decode().replace("\0", "")


def _plain(value) -> str | None:
    """Text without tags, entities and line breaks."""
    text = html.unescape(" ".join(_texts(value)))
    text = html.unescape(re.sub(r"<[^<>]*>", " ", text))
    return " ".join(text.split()) or None
