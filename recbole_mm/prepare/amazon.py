"""Make a data set from the Amazon reviews of 2014, 2018 or 2023.

    recbole-mm amazon Scientific --raw=raw --download --pictures
    recbole-mm amazon Toys --raw=raw --layout=2014
    recbole-mm amazon --name=Mine --reviews=Gift_Cards.csv --meta=meta.json.gz

Short names (Food, Home, CDs, Kindle, Movies, Pantry, Scientific, Instruments, Arts, Office, Toys)
and the addresses stand in mirrors.yaml; any other category goes by its own name. Without
--download the files must lie in the --raw folder under the names that their publishers gave them.

A user's repeated reviews of one item count once, at the first time (--repeats); then users and
items with fewer than 5 of them leave, again and again (--core). Reviews are dated by the day:
those of one day stay in the order of the file. Files are streamed, none is held in memory.
"""

import argparse
import ast
import gzip
import html
import io
import json
import re
import tempfile
from pathlib import Path

import polars as pl
import yaml
from tqdm import tqdm

from recbole_mm.prepare import download, tables
from recbole_mm.prepare import extract as extract_features
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.hashing import sha256_of_file

MIRRORS = Path(__file__).with_name("mirrors.yaml")
COLUMNS = ("user_id", "item_id", "rating", "timestamp")
"""Columns of a table of reviews."""
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
TIME_UNIT = {2014: "s", 2018: "s", 2023: "ms"}
CHUNK_BYTES = 64 << 20
ASIN = r"^[0-9A-Z]{10}$"


def scan_reviews(path, layout: int, scratch) -> pl.LazyFrame:
    """Reviews of any layout as a lazy table of :data:`COLUMNS`, in the order of the file.

    What polars cannot stream itself (anything packed, reviews as JSON) is first brought, piece by
    piece, into parquet files in ``scratch``.

    Args:
        path: ``.csv``, ``.json`` or ``.jsonl`` (one review per line), each also ``.gz``.
        layout: year of the collection, 2014, 2018 or 2023.
        scratch: a folder.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Put it there, or add --download.")
    endings = [ending.lower() for ending in path.suffixes]
    is_csv, is_packed = ".csv" in endings, endings[-1] == ".gz"
    if is_csv and not is_packed:
        return _review_columns(pl.scan_csv(path, **_csv_options(path, layout)), layout)
    options = _csv_options(path, layout) if is_csv else {}
    for number, (chunk, first) in enumerate(_chunks(path)):
        if is_csv:
            options["has_header"] = options["has_header"] and first
            part = pl.read_csv(chunk, **options)
            options["new_columns"] = part.columns
        else:
            keys = dict.fromkeys(REVIEW_KEYS[layout], pl.String)
            numbers = dict.fromkeys(REVIEW_KEYS[layout][2:], pl.Float64)
            part = pl.read_ndjson(chunk, schema=keys | numbers)
        part.write_parquet(Path(scratch) / f"reviews-{number:06d}.parquet")
    return _review_columns(pl.scan_parquet(Path(scratch) / "reviews-*.parquet"), layout)


def read_meta(path, wanted: set[str], layout: int) -> tuple[list[dict], dict[str, int]]:
    """Item rows of the metadata, one line at a time.

    Args:
        path: metadata, one item per line (JSON; Python literals in 2014), also ``.gz``.
        wanted: items to keep.
        layout: year of the collection.

    Returns:
        rows ``item_id, title, brand, categories, description, url``, each item once (its first
        line), and counts of repeated and unreadable lines.
    """
    key = "parent_asin" if layout == 2023 else "asin"
    find = re.compile(rf"""['"]{key}['"]: *['"]([^'"]+)['"]""")
    rows, counts = {}, {"lines": 0, "repeated": 0, "unreadable": 0}
    with _open_text(path) as file:
        for line in tqdm(file, Path(path).name, unit=" items", mininterval=5, disable=None):
            counts["lines"] += 1
            match = find.search(line)
            if match is None:
                counts["unreadable"] += bool(line.strip())
                continue
            if match[1] not in wanted:
                continue
            if match[1] in rows:
                counts["repeated"] += 1
                continue
            try:
                item = json.loads(line)
            except json.JSONDecodeError:
                try:
                    item = ast.literal_eval(line.strip())
                except (ValueError, SyntaxError):
                    counts["unreadable"] += 1
                    continue
            rows[match[1]] = _item_row(match[1], item)
    return list(rows.values()), counts


def make_amazon(args) -> PreparedDataset:
    """Make the data set that the command line describes."""
    args.output.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".amazon-", dir=args.output) as scratch,
        tables.reading(args.reviews),
    ):
        raw = scan_reviews(args.reviews, args.layout, scratch)
        _check_layout(raw, args.reviews, args.layout)
        typed, bad_rows = tables.check_interactions(
            raw, args.reviews, TIME_UNIT[args.layout], drop_bad_rows=True
        )
        typed = tables.on_disk(typed, Path(scratch) / "typed.parquet")
        interactions, dropped = tables.core_of(typed, args.core, args.core, args.repeats, scratch)
    if len(interactions) == 0:
        raise InputError(f"{args.reviews}: no user and item has {args.core} reviews; lower --core.")
    if bad_rows:
        print(f"{args.reviews}: left out: {bad_rows}")

    wanted = interactions["item_id"].unique().sort()
    rows, counts = [], {}
    if args.meta:
        rows, counts = read_meta(args.meta, set(wanted), args.layout)
        print(f"{args.meta}: {len(rows)} of {len(wanted)} items, {counts}")
    schema = dict.fromkeys(("item_id", "title", "brand", "categories", "description", "url"))
    meta = pl.DataFrame(rows, schema=dict.fromkeys(schema, pl.String))
    items = wanted.to_frame().join(meta, on="item_id", how="left", maintain_order="left")
    folder = args.output / args.name
    if args.pictures:
        pictures = items.filter(pl.col("url").is_not_null()).select("item_id", "url").rows()
        got = download.fetch_pictures(dict(pictures), folder / "images")
        print(f"{folder / 'images'}: {len(got)} of {len(wanted)} pictures, see report.json")
        names = [f"images/{got[item]}" if item in got else None for item in items["item_id"]]
        items = items.with_columns(image=pl.Series(names, dtype=pl.String))
    sources = [path for path in (args.reviews, args.meta) if path]
    dataset = write_dataset(
        args.output,
        args.name,
        interactions,
        items.drop("url"),
        core=args.core,
        repeats=args.repeats,
        repeats_dropped=dropped,
        layout=args.layout,
        rows_left_out=bad_rows,
        meta=counts,
        pictures=folder,
        sources={str(path): sha256_of_file(path) for path in sources},
    )
    if not args.no_features:
        extract_features.extract([dataset], extract_features.load_encoder(args.encoder))
    return dataset


def _csv_options(path, layout: int) -> dict:
    with _open_text(path) as file:
        has_header = "user_id" in file.readline()
    if has_header:
        return {"has_header": True, "infer_schema": False}
    columns = CSV_COLUMNS.get(layout, CSV_COLUMNS[2014])
    return {"has_header": False, "infer_schema": False, "new_columns": list(columns)}


def _review_columns(table: pl.LazyFrame, layout: int) -> pl.LazyFrame:
    there = table.collect_schema().names()
    if set(COLUMNS) <= set(there):
        return table.select(COLUMNS)
    keys = REVIEW_KEYS[layout]
    if not set(keys) <= set(there):
        raise InputError(f"columns {there}, expected {keys}; name another --layout.")
    return table.select(
        pl.col(theirs).alias(ours) for theirs, ours in zip(keys, COLUMNS, strict=True)
    )


def _check_layout(table: pl.LazyFrame, path, layout: int) -> None:
    """Refuse a file whose users look like items: the order of the columns differs by layout."""
    start = table.head(1000).collect()
    share = {name: start[name].str.contains(ASIN).mean() or 0.0 for name in COLUMNS[:2]}
    if share["user_id"] > 0.9 and share["item_id"] < 0.5:
        raise InputError(
            f"{path}: read as of {layout}, {share['user_id']:.0%} of its first users are item "
            f"numbers; name the year of the collection with --layout."
        )


def _open_text(path):
    path = Path(path)
    opened = gzip.open if path.suffix == ".gz" else open
    return opened(path, "rt", encoding="utf-8", errors="replace")


def _chunks(path):
    """Pieces of whole lines, and whether it is the first."""
    path = Path(path)
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        rest, first = b"", True
        while block := _read(file, path):
            head, newline, tail = block.rpartition(b"\n")
            if newline:
                yield io.BytesIO(rest + head + newline), first
                rest, first = tail, False
            else:
                rest += block
        if rest:
            yield io.BytesIO(rest), first


def _read(file, path) -> bytes:
    try:
        return file.read(CHUNK_BYTES)
    except (EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: cut or broken ({error}). Download it again.") from error


def _item_row(token: str, item: dict) -> dict[str, str | None]:
    categories = item.get("category") or item.get("categories") or []
    if categories and isinstance(categories[0], list):  # 2014: one path or more
        categories = list(dict.fromkeys(name for path in categories for name in path))
    title = _plain(item.get("title"))
    if title and "getTime" in title:  # a script that was scraped in place of the title
        title = None
    return {
        "item_id": token,
        "title": title,
        "brand": _plain(item.get("brand") or item.get("store")),
        "categories": _plain(", ".join(map(str, categories))),
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
    return found if isinstance(found, str) and found.startswith("http") else None


def _plain(value) -> str | None:
    """Text without tags, entities and line breaks."""
    if isinstance(value, list):
        value = " ".join(map(str, value))
    if not value:
        return None
    text = html.unescape(re.sub(r"<[^<>]*>", " ", html.unescape(str(value))))
    return " ".join(text.split()) or None


def _fetch(args, category: str, what: str) -> Path:
    """The reviews or the metadata of a category: from the raw folder, or downloaded into it."""
    mirrors = yaml.safe_load(args.mirrors.read_text(encoding="utf-8"))
    urls = [url.format(category=category) for url in mirrors["layouts"][args.layout][what]]
    for url in urls:
        path = args.raw / url.rsplit("/", 1)[-1]
        for there in (path, path.with_suffix("") if path.suffix == ".gz" else path):
            if there.is_file():
                return there
    if not args.download:
        raise InputError(
            f"{args.raw}: there is no {' or '.join(sorted({url.rsplit('/', 1)[-1] for url in urls}))}. "
            f"Add --download, or put it there from one of:\n  " + "\n  ".join(urls)
        )
    return download.fetch(urls, args.raw, mirrors.get("sha256"))


def read_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", nargs="?", help="short name or name of the category")
    parser.add_argument("--name", help="of the data set [the category as given]")
    parser.add_argument("--layout", type=int, choices=list(REVIEW_KEYS), default=2018)
    parser.add_argument("--raw", type=Path, default=Path("raw"), help="folder of the files [raw]")
    parser.add_argument("--reviews", type=Path, help="csv or json lines, plain or .gz")
    parser.add_argument("--meta", type=Path, help="json lines, plain or .gz")
    parser.add_argument("--download", action="store_true", help="get what is not in the raw folder")
    parser.add_argument("--pictures", action="store_true", help="download the items' pictures")
    parser.add_argument("--mirrors", type=Path, default=MIRRORS, help="addresses [mirrors.yaml]")
    parser.add_argument("--output", type=Path, default=Path("dataset"), help="[dataset]")
    parser.add_argument("--core", type=int, default=5, help="k of the iterated k-core [5]")
    parser.add_argument("--repeats", choices=["keep", "first", "last"], default="first")
    parser.add_argument("--encoder", help="of texts and pictures [embedded: no weights]")
    parser.add_argument("--no-features", action="store_true", help="tables only")
    args = parser.parse_args(arguments)
    args.name = args.name or args.category
    if not args.name or not (args.category or args.reviews):
        parser.error("name a category, or --name and --reviews")
    return args


def main(arguments=None) -> None:
    args = read_arguments(arguments)
    if args.category and not args.reviews:
        names = yaml.safe_load(args.mirrors.read_text(encoding="utf-8"))["categories"]
        category = names.get(args.category, args.category)
        args.reviews = _fetch(args, category, "reviews")
        args.meta = args.meta or _fetch(args, category, "meta")
    print(make_amazon(args).summary())
