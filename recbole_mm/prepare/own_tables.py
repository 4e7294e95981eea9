"""A data set from a user's own tables, pictures and vectors."""

from pathlib import Path

import polars as pl

from recbole_mm.prepare.core import core_of
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.interactions import check_interactions
from recbole_mm.prepare.item_pictures import find_pictures, inside
from recbole_mm.prepare.item_table import ItemTable, read_items
from recbole_mm.prepare.layouts import LAYOUTS, own_option
from recbole_mm.prepare.making import made_whole
from recbole_mm.prepare.prepared import PreparedDataset, moment_of, write_dataset
from recbole_mm.prepare.ready_made import write_vectors
from recbole_mm.prepare.table_files import pick_columns, reading, scan_table
from recbole_mm.prepare.times import NAME_THEM, YEAR_1995, Times, why_too_early
from recbole_mm.tools.counts import by_reason, counted
from recbole_mm.tools.files import kept_if_filled, scratch_folder
from recbole_mm.tools.hashing import sha256_of_file

OPTIONS = {
    "user_id": "--user-column=COLUMN",
    "item_id": "--item-column=COLUMN",
    "rating": "--rating-column=COLUMN",
    "timestamp": "--time-column=COLUMN",
}


NAMES = {"user_id": "user", "item_id": "item", "rating": "rating", "timestamp": "timestamp"}
"""Names of the columns of a layout, which may have none in its files."""


def prepare(args) -> PreparedDataset:
    """Create the data set that the command line describes (:mod:`recbole_mm.prepare.commands.prepare`).

    Raises:
        InputError: an input cannot be used; in this case, nothing has been written.
    """
    encoder, ways = _encoder(args), _ways(args)
    with kept_if_filled(args.output):
        return _prepare(args, encoder, ways)


def _prepare(args, encoder, ways) -> PreparedDataset:
    with scratch_folder(args.output, ".prepare-") as scratch:
        interactions, facts = _read_interactions(args, scratch)
        items = read_items(
            args.items,
            {"item_id": args.key_column or args.item_column} | args.item_text,
            interactions["item_id"],
            args.keep,
            args.items_text,
            scratch,
            args.only_items_with_interactions,
            args.layout,
        )
    if items.left_out:
        print(f"{args.items}: rows dropped: {by_reason(items.left_out)}")
    pictures, items = _with_pictures(args, items)
    _report_unused_columns(args, items)
    for modality in args.modalities if encoder is not None else ():
        if _has(items, modality):
            encoder.require(modality)
    with made_whole(args.output, args.name, args.command):
        dataset = _write_tables(args, interactions, facts, items, pictures)
        _write_features(args, dataset, encoder, ways)
    return dataset


def _encoder(args):
    """The encoder, loaded before any long work; ``None``: the embedded extractor or no features."""
    if args.no_features or args.vectors or not args.encoder:
        return None
    from recbole_mm.prepare.extract import load_encoder  # scikit-learn

    return load_encoder(args.encoder)


def _ways(args):
    """How the features are made with ``--like``, read before the data set changes."""
    if not args.like:
        return None
    from recbole_mm.prepare.alike import ways_of  # torch

    return ways_of(args.like, args.output, args.modalities)


def _has(items: ItemTable, modality: str) -> bool:
    """Whether any item has a text, or a picture."""
    fields = TEXT_FIELDS if modality == "text" else ("image",)
    columns = [field for field in fields if field in items.rows.columns]
    return any(items.rows[column].is_not_null().any() for column in columns)


def _report_unused_columns(args, items: ItemTable) -> None:
    """Name the columns that may hold the texts or pictures that the items lack."""
    wanted = () if args.no_features or args.vectors else args.modalities
    fixes = {
        "text": "--item-text title=COLUMN (or brand, categories, description)",
        "image": "--item-text image=COLUMN",
    }
    lacking = [modality for modality in wanted if not _has(items, modality)]
    if lacking and items.unused:
        columns = counted(len(items.unused), "column is", "columns are")
        print(
            f"{args.items}: no {' and no '.join(lacking)} of any item, but {columns} not used: "
            f"{', '.join(items.unused)}. Name one with "
            f"{'; '.join(f'{fixes[modality]} for {modality}' for modality in lacking)}"
        )


def _write_tables(
    args, interactions, facts: dict, items: ItemTable, pictures: Path
) -> PreparedDataset:
    sources = [path for path in (args.interactions, args.items, args.vectors) if path]
    return write_dataset(
        args.output,
        args.name,
        interactions,
        items.rows,
        pictures=pictures,
        types=items.types,
        core=args.core,
        repeats=args.repeats,
        **facts,
        item_rows_left_out=items.left_out,
        kept=items.types,
        **_terms(args),
        sources={str(path): sha256_of_file(path) for path in sources},
    )


def _write_features(args, dataset: PreparedDataset, encoder, ways) -> None:
    if args.vectors:
        write_vectors(dataset, args.vectors)
    elif ways:
        from recbole_mm.prepare.alike import extract_like

        extract_like([dataset], ways)
    elif not args.no_features:
        from recbole_mm.prepare.extract import extract  # scikit-learn

        extract([dataset], encoder, args.modalities)


def _terms(args) -> dict[str, str]:
    """What the card says about a public data set."""
    return {"source": args.layout, "terms": LAYOUTS[args.layout].terms} if args.layout else {}


def _read_interactions(args, scratch) -> tuple[pl.DataFrame, dict]:
    columns = {
        "user_id": args.user_column,
        "item_id": args.item_column,
        "rating": args.rating_column,
        "timestamp": args.time_column,
    }
    path = args.interactions
    with reading(path, args.text):
        options = {name: own_option(option, args.layout) for name, option in OPTIONS.items()}
        table = scan_table(path, args.text, scratch)
        raw = pick_columns(table, columns, path, options, args.text, number="row")
        names = NAMES if args.layout else {ours: columns[ours] or ours for ours in columns}
        typed, bad_rows = check_interactions(
            raw, path, _times(args), args.drop_bad_rows, names, args.text
        )
        interactions, dropped = core_of(typed, args.core, args.core, args.repeats, scratch)
    if len(interactions) == 0:
        raise InputError(
            f"{path}: no users and items have {args.core} or more interactions each; lower --core."
        )
    if bad_rows:
        print(f"{path}: rows dropped: {by_reason(bad_rows)}")
    _report_equal_events(path, interactions)
    if "timestamp" not in interactions.columns:
        fix = f" If it has a column of times, name it with {OPTIONS['timestamp']}."
        print(
            f"{path}: no times; the order of its rows is taken as the order of events."
            f"{'' if args.layout else fix}"
        )
    elif not (args.time_unit or args.time_format):
        _report_early_times(path, interactions)
    return interactions, {"repeats_dropped": dropped, "rows_left_out": bad_rows}


def _report_equal_events(path, interactions: pl.DataFrame) -> None:
    """Report events of equal user, item and time; they are kept, as they need not be mistakes."""
    if "timestamp" not in interactions.columns:
        return
    events = interactions.select("user_id", "item_id", "timestamp")
    equal = events.filter(events.is_duplicated())
    if len(equal):
        user, item, time = equal.row(0)
        copies = counted(len(equal) - equal.n_unique(), "event is", "events are")
        print(
            f"{path}: {copies} equal to another in user, item and time, e.g. user {user!r}, item "
            f"{item!r} at {moment_of(time)}; all are kept (--repeats=first keeps one event per user and item)"
        )


def _report_early_times(path, interactions: pl.DataFrame) -> None:
    """Report times that are hardly seconds; their order counts all the same."""
    latest = float(interactions.select(pl.col("timestamp").max()).item())
    if latest < YEAR_1995:
        reason = why_too_early(latest, Times(since=YEAR_1995))
        print(f"{path}: {reason}. If they are not seconds, {NAME_THEM}")


def _times(args) -> Times:
    """How the times are written; those of a public data set are known."""
    if not args.layout:
        return Times(args.time_unit, args.time_format)
    return Times(args.time_unit, since=YEAR_1995, fix="name the unit of its times (--time-unit)")


def _with_pictures(args, items: ItemTable) -> tuple[Path, ItemTable]:
    """The folder to which the pictures' paths are relative, and the items with these paths."""
    rows, beside = items.rows, (args.items or args.interactions).parent
    if "image" in rows.columns:
        folder = args.images or beside
        return folder, items._replace(
            rows=rows.with_columns(image=inside(folder, beside, rows["image"]))
        )
    folder = args.images or (beside / "images" if args.folder else None)
    if folder is None or not folder.is_dir():
        return beside, items
    found = find_pictures(folder, rows["item_id"], required=args.images is not None)
    return folder, items._replace(rows=rows.with_columns(image=found))
