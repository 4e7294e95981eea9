"""Options of commands that change which items a model ranks."""

import argparse
from pathlib import Path

from recbole_mm.prepare.commands.options import (
    KEY_COLUMN,
    add_item_text,
    pairs,
    parse_item_text,
)
from recbole_mm.prepare.formats import (
    TextFormat,
    parse_encoding,
    parse_separator,
    refuse_unreadable,
)
from recbole_mm.tools.command_lines import path_argument
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError

ITEM_FILES = ("new_items", "catalog", "remove_items")
"""Options of :func:`add_item_options` that name a table."""


def add_item_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--new-items``, ``--catalog``, ``--item-text``, ``--key-column``, ``--new-vectors``,
    ``--images``, ``--encoder`` and ``--remove-items``."""
    group = parser.add_argument_group("items")
    add = group.add_argument
    add("--new-items", type=path_argument, metavar="FILE", help="table of items to add: vectors (lists in "
        "columns named like the modalities), or texts and pictures")  # fmt: skip
    add(
        "--catalog",
        type=path_argument,
        metavar="FILE",
        help="like --new-items, and no other items are recommended",
    )
    add_item_text(group)
    add("--key-column", metavar="COLUMN", help=KEY_COLUMN)
    add("--new-vectors", action="append", default=[], metavar="MODALITY=FILE.npz",
        help="feature file of a modality of the new items; may be repeated")  # fmt: skip
    add(
        "--images",
        type=path_argument,
        metavar="FOLDER",
        help="folder of all pictures [that of the table]",
    )
    add("--encoder", action="append", default=[], metavar="MODALITY=FOLDER",
        help="encoder of texts or pictures, if it is no longer where it was; may be repeated")  # fmt: skip
    add("--remove-items", type=path_argument, metavar="FILE", help="items to stop recommending")


def add_model_and_output(add) -> None:
    """Add ``--model``, ``--output`` and ``--overwrite``; ``add`` adds an argument."""
    add(
        "--model",
        required=True,
        metavar="PATH",
        help="a checkpoint or a bundle, or OWNER/NAME of a bundle on the Hugging Face hub",
    )
    add(
        "--output",
        required=True,
        metavar="FILE",
        help=".parquet, .csv, .tsv or .jsonl; the last three also with .gz",
    )
    add("--overwrite", action="store_true", help="replace an existing output")


def add_text_options(add) -> None:
    """Add ``--separator``, ``--encoding`` and ``--no-quotes``; ``add`` adds an argument."""
    add("--separator", type=parse_separator, help="separator of csv columns [,]; tab for a tab")
    add(
        "--encoding",
        type=parse_encoding,
        default="utf-8",
        help="text encoding of csv and tsv [utf-8]",
    )
    add("--no-quotes", action="store_true", help='read " in csv and tsv as an ordinary character')


def text_of(options) -> TextFormat:
    """The text format from the options of :func:`add_text_options`."""
    return TextFormat(options.separator, options.encoding, not options.no_quotes)


def read_item_options(options, text: TextFormat) -> None:
    """Check the options of :func:`add_item_options`.

    Raises:
        UserError: a file does not exist, or its name cannot be used.
    """
    if options.new_items and options.catalog:
        raise UserError("--new-items and --catalog: give one of them")
    options.item_text = parse_item_text(options.item_text)
    names = ("encoder", "images", "item_text", "key_column")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name)]
    if given and not (options.new_items or options.catalog):
        raise UserError(
            f"{', '.join(given)}: only for a table of new items: give --new-items or --catalog"
        )
    for path in (options.new_items, options.catalog):
        if path is not None:
            refuse_unreadable(path, text)
    options.new_vectors = _by_modality("new-vectors", options.new_vectors, Path.is_file, "FILE.npz")
    options.encoder = _by_modality("encoder", options.encoder, Path.is_dir, "FOLDER")
    refuse_unreadable_ids(options.remove_items, text)


def refuse_unreadable_ids(path: Path | None, text: TextFormat) -> None:
    """Check a file of ids: a text with one id per line (``.txt``), or a table.

    Raises:
        UserError: it does not exist, or its name cannot be used.
    """
    is_lines = path is not None and path.suffix.lower() == ".txt" and path.is_file()
    if path is not None and not is_lines:
        refuse_unreadable(path, text)


def _by_modality(option: str, given: list[str], is_there, kind: str) -> dict[str, str]:
    """The existing paths of ``MODALITY=PATH`` options."""
    paths = dict(pairs(given))
    for modality, path in paths.items():
        if not path or not is_there(Path(path)):
            what = kind.partition(".")[0].lower()
            found = f"it is not a {what}" if path and Path(path).exists() else f"no such {what}"
            raise UserError(f"--{option}={modality}={path}: {found}; write MODALITY={kind}")
    return paths


def inputs_of(options, *names: str) -> dict[str, object]:
    """The files that a command reads, by their options.

    Args:
        options: values of the options of :func:`add_item_options` and of the named ones.
        names: other options whose values are files.
    """
    files = {
        f"--{name.replace('_', '-')}": getattr(options, name) for name in (*names, *ITEM_FILES)
    }
    vectors = options.new_vectors.items()
    return files | {f"--new-vectors={modality}": path for modality, path in vectors}


def change_items(recommender, options, form, strict: bool = False) -> None:
    """Add the items of the data set without interactions, change the items as the options ask, and
    report it.

    Args:
        recommender: recommender whose items change.
        options: values of the options of :func:`add_item_options`, and ``device``.
        form: item column and format of the tables.
        strict: whether an unknown item of ``--remove-items`` is an error.

    Raises:
        UserError: see :class:`~recbole_mm.recommend.recommender.Recommender`.
    """
    from recbole_mm.tools import processes

    n_of_data = recommender.add_items_of_data()
    if n_of_data and not options.catalog and processes.is_first():
        print(
            f"{counted(n_of_data, 'item', 'items')} of the data set without interactions: recommended "
            f"as new items, by their features"
        )
    of_items = form._replace(
        item=options.key_column or form.item, item_text=tuple(options.item_text.items())
    )
    given = {"vectors": options.new_vectors, "form": of_items, "pictures": options.images}
    given |= {"device": options.device, "encoders": options.encoder}
    if options.catalog:
        n_new = recommender.replace_catalog(options.catalog, **given)
        n_offered = int(recommender.catalog.offered[1:].sum())
        print(
            f"{options.catalog}: {counted(n_offered, 'item', 'items')} to recommend, {n_new:,} new"
        )
    elif options.new_items or options.new_vectors:
        n_new = recommender.add_items(options.new_items, **given)
        n_known = len(_given(options, of_items)) - n_new
        already = f"; already in the catalog: {n_known:,}" if n_known else ""
        print(f"{counted(n_new, 'new item', 'new items')}{already}")
    if options.remove_items:
        from recbole_mm.recommend.tables import read_ids

        recommender.remove_items(read_ids(options.remove_items, "item", form), strict)


def _given(options, form) -> set[str]:
    """External ids of the items to be added according to the options."""
    from recbole_mm.data.feature_files import read_feature_tokens
    from recbole_mm.recommend.tables import ids_of_table

    if options.new_items:
        return set(ids_of_table(options.new_items, "item", form))
    return {token for path in options.new_vectors.values() for token in read_feature_tokens(path)}
