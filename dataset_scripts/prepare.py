"""Make a data set from your own tables, pictures and vectors.

    python dataset_scripts/prepare.py ../shared/data/Toys
    python dataset_scripts/prepare.py ../shared/data/ToysGames --vectors ../shared/data/Toys
    python dataset_scripts/prepare.py --name=Shop --interactions=orders.parquet --items=goods.csv \
        --images=photos --user-column=customer --item-column=sku --time-column=ordered_at

A folder holds interactions.csv (user, item, rating, timestamp), items.jsonl (item, title, brand,
categories, description, image) and, if it likes, images/ and clip_vit_b32.npz (ready-made
vectors); any column, file and format (csv, tsv, parquet, jsonl) can be named. Written are
dataset/NAME/NAME.{inter,item,text.npz,image.npz,card.json}.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dataset_scripts import tables
from dataset_scripts.files import InputError, run_script, sha256, today, write_json
from recbole_mm.data.features import feature_path, write_item_features

VECTORS_NAME = "clip_vit_b32.npz"


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
    with np.load(path, allow_pickle=False) as archive:
        absent = {"item", modality, f"has_{modality}"} - set(archive.files)
        if absent:
            raise InputError(f"{path}: no array {sorted(absent)}, it has {archive.files}.")
        token, vector, has = archive["item"], archive[modality], archive[f"has_{modality}"]
    rows = np.flatnonzero(has & np.isin(token, item_ids.to_numpy().astype(np.str_)))
    rows = rows[np.argsort(token[rows])]
    if len(rows) == 0:
        raise InputError(f"{path}: no '{modality}' vector for any item of the data set.")
    return token[rows], vector[rows]


def write_vectors(folder: Path, name: str, path, items: pl.Series) -> dict[str, dict]:
    """Write text and image vectors of a ready-made file; returns each modality's description."""
    written = {}
    for modality in ("text", "image"):
        token, vector = read_vectors(path, modality, items)
        info = {
            "encoder": Path(path).stem,
            "source_sha256": sha256(path),
            "dimension": vector.shape[1],
            "normalization": "none",
            "date": today(),
            "coverage": len(token) / len(items),
        }
        write_item_features(feature_path(folder, name, modality), token, vector, info)
        written[modality] = info
    return written


def prepare(args) -> Path:
    """Make the data set and return its folder."""
    folder = Path(args.output) / args.name
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        "user_id": args.user_column,
        "item_id": args.item_column,
        "rating": args.rating_column,
        "timestamp": args.time_column,
    }
    source = tables.scan_table(args.interactions)
    raw = tables.pick_columns(source, columns, args.interactions)
    typed, bad_rows = tables.check_interactions(
        raw, args.interactions, args.time_unit, args.drop_bad_rows
    )
    interactions = tables.core_of(typed, args.core, args.core, args.repeats, folder)
    if len(interactions) == 0:
        raise InputError(f"{args.interactions}: nothing is left of it after {args.core}-core.")
    item_columns = {"item_id": args.item_column} | {name: None for name in tables.ITEM_FIELDS}
    items = read_items(args.items, item_columns, interactions["item_id"])
    tables.write_interactions(folder / f"{args.name}.inter", interactions)
    tables.write_items(folder / f"{args.name}.item", items)
    features = {}
    if args.vectors:
        features = write_vectors(folder, args.name, args.vectors, items["item_id"])
    sources = [path for path in (args.interactions, args.items, args.vectors) if path]
    card = {
        "name": args.name,
        "users": interactions["user_id"].n_unique(),
        "items": len(items),
        "interactions": len(interactions),
        "columns": interactions.columns,
        "core": args.core,
        "repeats": args.repeats,
        "rows_left_out": bad_rows,
        "pictures": str(args.images) if args.images else None,
        "sources": {str(path): sha256(path) for path in sources},
        "features": features,
        "files": {
            path.name: sha256(path)
            for path in sorted(folder.glob(f"{args.name}.*"))
            if not path.name.endswith("card.json")
        },
    }
    write_json(folder / f"{args.name}.card.json", card)
    return folder


def read_arguments(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, help="interactions.csv, items.jsonl, ...")
    parser.add_argument("--name", help="of the data set; the folder's if not given")
    parser.add_argument("--output", type=Path, default="dataset", help="[dataset]")
    parser.add_argument("--interactions", type=Path, help="csv, tsv, parquet or jsonl")
    parser.add_argument("--items", type=Path, help="csv, tsv, parquet or jsonl")
    parser.add_argument("--images", type=Path, help="folder that the picture paths start from")
    parser.add_argument("--vectors", type=Path, help="ready-made vectors (a folder or .npz file)")
    parser.add_argument("--user-column", default="user", help="[user]")
    parser.add_argument("--item-column", default="item", help="[item]")
    parser.add_argument("--rating-column", help="[rating, if there is one]")
    parser.add_argument("--time-column", help="[timestamp, if there is one]")
    parser.add_argument("--time-unit", choices=list(tables.SECONDS_PER_UNIT), default="s")
    parser.add_argument("--core", type=int, default=0, help="k of the iterated k-core [0: none]")
    parser.add_argument("--repeats", choices=["keep", "first", "last"], default="keep")
    parser.add_argument("--drop-bad-rows", action="store_true", help="leave out and count")
    args = parser.parse_args(arguments)
    if args.folder:
        if not args.folder.is_dir():
            parser.error(f"{args.folder}: no such folder")
        args.interactions = args.interactions or args.folder / "interactions.csv"
        items = args.folder / "items.jsonl"
        args.items = args.items or (items if items.is_file() else None)
        vectors = args.folder / VECTORS_NAME
        args.vectors = args.vectors or (vectors if vectors.is_file() else None)
        args.images = args.images or args.folder
    if args.vectors and args.vectors.is_dir():
        args.vectors = args.vectors / VECTORS_NAME
    if not args.interactions:
        parser.error("name a folder or --interactions")
    args.name = args.name or args.interactions.resolve().parent.name
    return args


def main() -> None:
    folder = prepare(read_arguments())
    print(f"{folder}: ready")


if __name__ == "__main__":
    run_script(main)
