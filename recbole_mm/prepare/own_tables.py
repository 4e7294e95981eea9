"""Make a data set from your own tables, pictures and vectors.

    recbole-mm prepare ../shared/data/Toys
    recbole-mm prepare ../shared/data/ToysGames --vectors ../shared/data/Toys
    recbole-mm prepare --name=Shop --interactions=orders.parquet --items=goods.csv \
        --images=photos --user-column=customer --item-column=sku --time-column=ordered_at

A folder holds interactions.csv (user, item, rating, timestamp), items.jsonl (item, title, brand,
categories, description, image) and, if it likes, images/ and clip_vit_b32.npz (ready-made
vectors); any column, file and format (csv, tsv, parquet, jsonl) can be named. Written are
dataset/NAME/NAME.{inter,item,text.npz,image.npz,card.json}.
"""

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from recbole_mm.data.features import feature_path, write_item_features
from recbole_mm.prepare import extract as extract_features
from recbole_mm.prepare import tables
from recbole_mm.prepare.inputs import InputError, load_arrays, today
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.tools.hashing import sha256_of_file

VECTORS_NAME = "clip_vit_b32.npz"
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}


def read_items(path, columns: dict[str, str | None], item_ids: pl.Series) -> pl.DataFrame:
    """The rows of the items that have interactions, in the order of their tokens.

    Items without a row get one with nothing but their token.

    Raises:
        InputError: an item has two rows, or no item has one.
    """
    wanted = pl.DataFrame({"item_id": item_ids.unique().sort()})
    if path is None:
        return wanted
    items = tables.pick_columns(tables.scan_table(path), columns, path)
    types = items.collect_schema()
    items = items.with_columns(_as_text(name, dtype) for name, dtype in types.items())
    items = items.join(wanted.lazy(), on="item_id", how="semi").collect()
    repeated = items.filter(items["item_id"].is_duplicated())["item_id"].unique().sort()
    if len(repeated):
        raise InputError(
            f"{path}: {len(repeated)} items have more than one row, e.g. "
            f"{repeated.head(3).to_list()}; keep one row per item."
        )
    if len(items) == 0:
        raise InputError(
            f"{path}: none of the {len(wanted)} items of the interactions is in it; theirs look "
            f"like {wanted['item_id'].head(3).to_list()}. Is it the file of another data set?"
        )
    return wanted.join(items, on="item_id", how="left", maintain_order="left")


def _as_text(name: str, dtype) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.List):
        return column.cast(pl.List(pl.String)).list.join(", ", ignore_nulls=True)
    return column.cast(pl.String)


def read_vectors(path, modality: str, item_ids: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Ready-made vectors of one modality for the items that have one: tokens and rows.

    The file has the arrays ``item``, ``<modality>`` and ``has_<modality>``, as clip_vit_b32.npz.
    """
    archive = load_arrays(path)
    if isinstance(archive, np.ndarray):
        raise InputError(f"{path}: one array; expected an .npz (extract_features.py takes this).")
    with archive:
        absent = {"item", modality, f"has_{modality}"} - set(archive.files)
        if absent:
            raise InputError(f"{path}: no array {sorted(absent)}, it has {archive.files}.")
        token, vector, has = archive["item"], archive[modality], archive[f"has_{modality}"]
    rows = np.flatnonzero(has & np.isin(token, item_ids.to_numpy().astype(np.str_)))
    rows = rows[np.argsort(token[rows])]
    if len(rows) == 0:
        raise InputError(f"{path}: no '{modality}' vector for any item of the data set.")
    return token[rows], vector[rows]


def write_vectors(dataset: PreparedDataset, path) -> None:
    """Write the text and image features of a data set from a ready-made file."""
    items = dataset.items["item_id"]
    for modality in ("text", "image"):
        token, vector = read_vectors(path, modality, items)
        info = {
            "encoder": Path(path).stem,
            "revision": sha256_of_file(path)[:16],
            "dimension": vector.shape[1],
            "normalization": "none",
            "date": today(),
            "coverage": len(token) / len(items),
        }
        write_item_features(
            feature_path(dataset.folder, dataset.name, modality), token, vector, info
        )
    dataset.write_card()


def prepare(args) -> PreparedDataset:
    """Make the data set that the command line describes."""
    columns = {
        "user_id": args.user_column,
        "item_id": args.item_column,
        "rating": args.rating_column,
        "timestamp": args.time_column,
    }
    args.output.mkdir(parents=True, exist_ok=True)
    with tables.reading(args.interactions):
        source = tables.scan_table(args.interactions)
        raw = tables.pick_columns(source, columns, args.interactions)
        typed, bad_rows = tables.check_interactions(
            raw, args.interactions, args.time_unit, args.drop_bad_rows
        )
        interactions, dropped = tables.core_of(
            typed, args.core, args.core, args.repeats, args.output
        )
    if len(interactions) == 0:
        raise InputError(
            f"{args.interactions}: no user and item has {args.core} interactions or more; "
            f"lower --core."
        )
    item_columns = {"item_id": args.item_column} | dict(args.item_text)
    with tables.reading(args.items):
        items = read_items(args.items, item_columns, interactions["item_id"])
    if args.images and "image" not in items.columns:
        items = items.with_columns(image=find_pictures(args.images, items["item_id"]))
    sources = [path for path in (args.interactions, args.items, args.vectors) if path]
    dataset = write_dataset(
        args.output,
        args.name,
        interactions,
        items,
        core=args.core,
        repeats=args.repeats,
        repeats_dropped=dropped,
        rows_left_out=bad_rows,
        pictures=args.images or (args.items or args.interactions).parent,
        sources={str(path): sha256_of_file(path) for path in sources},
    )
    if args.vectors:
        write_vectors(dataset, args.vectors)
    elif not args.no_features:
        extract_features.extract([dataset], extract_features.load_encoder(args.encoder))
    return dataset


def find_pictures(folder: Path, item_ids: pl.Series) -> pl.Series:
    """Names of the pictures called after their item, ``<item>.<jpg, png, webp, gif>``."""
    there = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix in PICTURES}
    if not any(item in there for item in item_ids):
        raise InputError(
            f"{folder}: no picture is called after an item, as in {item_ids[0]}.jpg; rename them, "
            f"or give the items a column with the picture's path (--item-text image=COLUMN)."
        )
    return pl.Series([there.get(item) for item in item_ids], dtype=pl.String)


def read_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="with interactions.csv, items.jsonl")
    parser.add_argument("--name", help="of the data set [the folder's]")
    parser.add_argument("--output", type=Path, default=Path("dataset"), help="[dataset]")
    parser.add_argument("--interactions", type=Path, help="csv, tsv, parquet or jsonl")
    parser.add_argument("--items", type=Path, help="csv, tsv, parquet or jsonl")
    parser.add_argument("--images", type=Path, help="folder of the pictures")
    parser.add_argument("--vectors", type=Path, help=f"a file like {VECTORS_NAME}, or its folder")
    parser.add_argument("--user-column", default="user", help="[user]")
    parser.add_argument("--item-column", default="item", help="in both tables [item]")
    parser.add_argument("--rating-column", help="[rating, if there is one]")
    parser.add_argument("--time-column", help="[timestamp, if there is one]")
    parser.add_argument(
        "--item-text",
        action="append",
        default=[],
        metavar="FIELD=COLUMN",
        help=f"where {', '.join(tables.ITEM_FIELDS)} of an item stand [columns of these names]",
    )
    parser.add_argument("--time-unit", choices=list(tables.SECONDS_PER_UNIT), default="s")
    parser.add_argument("--core", type=int, default=0, help="k of the iterated k-core [none]")
    parser.add_argument("--repeats", choices=["keep", "first", "last"], default="keep")
    parser.add_argument("--drop-bad-rows", action="store_true", help="leave them out, count them")
    parser.add_argument("--encoder", help="of texts and pictures [embedded: no weights]")
    parser.add_argument("--no-features", action="store_true", help="tables only")
    args = parser.parse_args(arguments)
    if args.folder:
        if not args.folder.is_dir():
            parser.error(f"{args.folder}: no such folder")
        args.interactions = args.interactions or args.folder / "interactions.csv"
        args.items = args.items or _if_there(args.folder / "items.jsonl")
        args.vectors = args.vectors or _if_there(args.folder / VECTORS_NAME)
    if not args.interactions:
        parser.error("name a folder, or --interactions=FILE")
    if args.vectors and args.vectors.is_dir():
        args.vectors = args.vectors / VECTORS_NAME
    args.name = args.name or args.interactions.resolve().parent.name
    args.item_text = {name: None for name in tables.ITEM_FIELDS} | {
        field: column for field, _, column in (one.partition("=") for one in args.item_text)
    }
    unknown = set(args.item_text) - set(tables.ITEM_FIELDS)
    if unknown:
        parser.error(f"--item-text {sorted(unknown)}: the fields are {tables.ITEM_FIELDS}")
    return args


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def main(arguments=None) -> None:
    print(prepare(read_arguments(arguments)).summary())
