"""A data set from a user's own tables, pictures and vectors."""

from pathlib import Path

import polars as pl

from recbole_mm.prepare import extract as extract_features
from recbole_mm.prepare import tables
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.prepare.ready_made import write_vectors
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.pictures import picture_suffixes


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
    """Names of the pictures that are named after their item: ``<item>.jpg``, ``<item>.PNG``, ...

    Raises:
        InputError: an item has two pictures, or none has one.
    """
    endings, wanted, found = picture_suffixes(), set(item_ids), {}
    for path in sorted(folder.iterdir()):
        if path.stem not in wanted or path.suffix.lower() not in endings:
            continue
        if path.stem in found:
            raise InputError(
                f"{folder}: item {path.stem!r} has two pictures, {found[path.stem]} and {path.name}; "
                f"keep one of them."
            )
        found[path.stem] = path.name
    if not found:
        raise InputError(
            f"{folder}: no picture is named after an item, as in {item_ids[0]}.jpg; rename them, or "
            f"add a column with the path of each item's picture (--item-text image=COLUMN). Endings "
            f"are {', '.join(sorted(endings))}, in lower or upper case."
        )
    return pl.Series([found.get(item) for item in item_ids], dtype=pl.String)
