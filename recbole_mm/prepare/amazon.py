"""The steps from the Amazon reviews to a data set: reviews, metadata, pictures, tables, features."""

import contextlib
import sys
from pathlib import Path

import polars as pl

from recbole_mm.prepare.amazon_files import read_meta, scan_reviews, times_of
from recbole_mm.prepare.core import core_of, on_disk
from recbole_mm.prepare.download import DownloadError, fetch
from recbole_mm.prepare.extract import extract
from recbole_mm.prepare.folders import require_creatable, require_writable_folders
from recbole_mm.prepare.formats import FIXED
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.interactions import check_interactions
from recbole_mm.prepare.making import Making
from recbole_mm.prepare.mirrors import SHIPPED, Mirrors
from recbole_mm.prepare.pictures import fetch_pictures
from recbole_mm.prepare.prepared import PreparedDataset, write_dataset
from recbole_mm.prepare.recipe import Recipe, command_for
from recbole_mm.prepare.table_files import reading
from recbole_mm.prepare.web import open_session
from recbole_mm.tools.counts import by_reason, counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import scratch_folder
from recbole_mm.tools.hashing import sha256_of_file

STEPS = ("reviews", "metadata", "pictures", "tables", "features")


def make(
    recipes: list[Recipe],
    mirrors: Mirrors,
    encoder=None,
    modalities=("text", "image"),
    command: str | None = None,
) -> list[PreparedDataset]:
    """Make data sets, reusing what an interrupted run has finished.

    Args:
        recipes: one recipe per data set.
        mirrors: download addresses.
        encoder: encoder from :func:`recbole_mm.prepare.extract.load_encoder`; ``None`` is the
            embedded extractor, which puts all data sets into one space.
        modalities: features to make; empty for tables only.
        command: command that finishes a data set after an interruption, for messages.

    Raises:
        UserError: a folder cannot be written to.
        InputError: files are missing or damaged, or no reviews are left.
        DownloadError: a file cannot be downloaded; the message says what to do without a network.
    """
    for modality in modalities if encoder is not None else ():
        if modality != "image" or any(recipe.pictures for recipe in recipes):
            encoder.require(modality)
    for recipe in recipes:
        recipe.require_files()
        require_writable_folders(recipe.output, recipe.name)
        if recipe.download:
            fix = "Change its permissions, or give another folder (recbole-mm amazon --raw=FOLDER)"
            require_creatable(recipe.raw, fix)
    with contextlib.ExitStack() as stack:
        makings = [
            stack.enter_context(
                Making(recipe.output, recipe.name, recipe.plain(), command or command_for(recipe))
            )
            for recipe in recipes
        ]
        datasets = [
            make_tables(recipe, mirrors, making)
            for recipe, making in zip(recipes, makings, strict=True)
        ]
        if modalities:
            with step(", ".join(dataset.name for dataset in datasets), "features"):
                extract(datasets, encoder, modalities)
        for making in makings:
            making.finish()
    return datasets


def make_tables(recipe: Recipe, mirrors: Mirrors, making: Making) -> PreparedDataset:
    """Run all steps except the features."""
    if making.tables_written:
        with contextlib.suppress(UserError):  # the user has removed them since
            dataset = PreparedDataset(recipe.output, recipe.name)
            _say(f"{recipe.name}: reusing the tables of an interrupted run")
            return dataset
    session = open_session(mirrors.trusted_hosts)
    with step(recipe.name, "reviews"):
        reviews = recipe.reviews or find_file(recipe, "reviews", mirrors, session)
        interactions, facts = read_interactions(recipe, reviews)
    with step(recipe.name, "metadata"):
        meta = recipe.meta
        if recipe.source is not None and meta is None:
            meta = find_file(recipe, "meta", mirrors, session)
        items, found = read_items(recipe, meta, interactions["item_id"].unique().sort())
    with step(recipe.name, "pictures", "" if recipe.pictures else "(not requested)"):
        items, failed = add_pictures(recipe, items, session)
    with step(recipe.name, "tables"):
        making.begin()
        sources = {str(path): sha256_of_file(path) for path in (reviews, meta) if path}
        dataset = write_tables(recipe, interactions, items, sources, facts | found | failed)
        making.tables_are_written()
    return dataset


def find_file(recipe: Recipe, kind: str, mirrors: Mirrors, session) -> Path:
    """The reviews or the metadata, in the raw folder or downloaded into it.

    Args:
        recipe: recipe with a source.
        kind: ``reviews`` or ``meta``.
        mirrors: mirrors with the hashes.
        session: session from :func:`recbole_mm.prepare.web.open_session`.
    """
    path = recipe.file_there(kind)
    if path is not None:
        return path
    try:
        return fetch(getattr(recipe.source, kind), recipe.raw, session, mirrors.sha256)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nThe same command resumes. Without a network, put these files into "
            f"{recipe.raw}/ yourself, packed or not, each from one of its addresses, or name other "
            f"addresses with --mirrors=FILE (a file like {SHIPPED}):\n{recipe.missing_files()}"
        ) from error


def read_interactions(recipe: Recipe, path: Path) -> tuple[pl.DataFrame, dict]:
    """The core of the reviews, sorted by user and time, and counts of what was dropped."""
    recipe.output.mkdir(parents=True, exist_ok=True)
    with (
        scratch_folder(recipe.output, ".amazon-") as scratch,
        reading(path, FIXED),
    ):
        raw = scan_reviews(path, recipe.layout, scratch).with_row_index("row")
        typed, bad_rows = check_interactions(raw, path, times_of(recipe.layout), drop_bad_rows=True)
        typed = on_disk(typed, scratch / "typed.parquet")
        interactions, dropped = core_of(typed, recipe.core, recipe.core, recipe.repeats, scratch)
    if len(interactions) == 0:
        raise InputError(
            f"{path}: no users and items with {recipe.core} reviews each; lower --core."
        )
    return interactions, {"rows_left_out": bad_rows, "repeats_dropped": dropped}


def read_items(recipe: Recipe, path: Path | None, wanted: pl.Series) -> tuple[pl.DataFrame, dict]:
    """The items with their texts and picture addresses, and counts of what was not found."""
    items = wanted.to_frame()
    if path is None:
        return items, {"meta": {}}
    meta, counts = read_meta(path, set(wanted), recipe.layout)
    counts |= {"items_without": len(wanted) - len(meta)}
    return items.join(meta, on="item_id", how="left", maintain_order="left"), {"meta": counts}


def add_pictures(recipe: Recipe, items: pl.DataFrame, session) -> tuple[pl.DataFrame, dict]:
    """The items with picture names instead of addresses, and counts of failures by reason."""
    if "url" not in items.columns:
        return items, {}
    addresses = dict(items.filter(pl.col("url").is_not_null()).select("item_id", "url").rows())
    items = items.drop("url")
    if not recipe.pictures:
        return items, {}
    folder = recipe.folder / "images"
    try:
        got = fetch_pictures(addresses, folder, session)
    except DownloadError as error:
        raise DownloadError(
            f"{error}\nThe same command resumes. Without a network, put the pictures into {folder}/ "
            f"yourself, named <item_id>.jpg (or .png, .webp, .gif), or do without them: "
            f"recbole-mm amazon without --pictures, or training with --modalities=[text]."
        ) from error
    names = [
        f"images/{got.names[item]}" if item in got.names else None for item in items["item_id"]
    ]
    failed = {"no address": len(items) - len(addresses)} | got.reasons()
    items = items.with_columns(image=pl.Series(names, dtype=pl.String))
    return items, {"pictures_failed": {why: count for why, count in failed.items() if count}}


def write_tables(
    recipe: Recipe, interactions: pl.DataFrame, items: pl.DataFrame, sources: dict, facts: dict
) -> PreparedDataset:
    """The ``.inter``, ``.item`` and card files."""
    return write_dataset(
        recipe.output,
        recipe.name,
        interactions,
        items,
        pictures=recipe.folder,
        core=recipe.core,
        repeats=recipe.repeats,
        layout=recipe.layout,
        sources=sources,
        **facts,
    )


def what_is_missing(dataset: PreparedDataset) -> list[str]:
    """Lines about what was not available, from the card."""
    card, lines = dataset.card, []
    items = counted(card["items"], "item", "items")
    if any(card.get("rows_left_out", {}).values()):
        lines.append(f"{dataset.name}: reviews dropped: {by_reason(card['rows_left_out'])}")
    without = card.get("meta", {}).get("items_without", 0)
    if without:
        lines.append(f"{dataset.name}: without metadata: {without:,} of {items}")
    failed = card.get("pictures_failed", {})
    if failed:
        report = dataset.folder / "images" / "report.json"
        lines.append(
            f"{dataset.name}: without a picture: {sum(failed.values()):,} of {items} "
            f"({by_reason(failed)}); see {report}"
        )
    return lines


@contextlib.contextmanager
def step(name: str, called: str, remark: str = ""):
    """Announce a step, and name it in the error if a download fails in it."""
    which = f"step {STEPS.index(called) + 1} of {len(STEPS)}"
    _say(f"{name}: {which}: {called}{remark and f' {remark}'}")
    try:
        yield
    except DownloadError as error:
        raise DownloadError(f"{name}: {which} ({called}) failed: {error}") from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
