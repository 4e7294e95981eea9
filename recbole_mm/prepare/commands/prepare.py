"""Create a data set from your own tables, pictures and vectors.

    recbole-mm prepare Shop                          # a folder, see below
    recbole-mm prepare --name=Shop --interactions=orders.parquet --items=goods.csv --images=photos
    recbole-mm prepare Shop --user-column=customer --item-column=sku --time-column=ordered_at
    recbole-mm prepare Shop --separator=';' --encoding=cp1252 --time-format='%d.%m.%Y %H:%M'
    recbole-mm prepare Shop --keep price --keep color=main_color
    recbole-mm prepare Shop --like=Shop              # tomorrow's tables, for the model of today
    recbole-mm prepare MicroLens-50k --layout=microlens --core=5    # also ninerec, pixelrec

A folder holds interactions.csv (columns user, item and, optionally, rating, timestamp) and, as far
as you have them, items.jsonl (item, title, brand, categories, description, image), images/
(named after their items) and clip_vit_b32.npz (vectors). Both tables may be csv, tsv or jsonl, each
also as .gz, parquet or xlsx, under any name and with columns of any name.

--layout reads a public data set as its authors lay it out: NineRec (one folder with QB_pair.csv or
QB_behaviour.tsv, QB_item.csv, QB_cover/), MicroLens (MicroLens-50k_pairs.csv or .tsv,
MicroLens-50k_titles.csv, MicroLens-50k_covers/) and PixelRec (pixelrec_interaction/,
pixelrec_iteminfo/, cover/). If the folder holds several data sets, --name chooses one. A first
line such as item,user,timestamp, which you may add to the pairs, says what their columns hold.

This writes dataset/NAME/NAME.{inter,item,text.npz,image.npz,card.json}. Items without interactions
are kept: they have features and can be recommended as new items.
"""

import re
from pathlib import Path

from recbole_mm.prepare.commands.options import (
    KEY_COLUMN,
    MODALITIES,
    add_encoder,
    add_item_text,
    add_like,
    add_output,
    command_line,
    parse_item_text,
    parser_of,
)
from recbole_mm.prepare.fields import FIELD_TYPES, ITEM_FIELDS, SECONDS_PER_UNIT
from recbole_mm.prepare.folders import refuse_unusable_name, require_writable_folders
from recbole_mm.prepare.formats import (
    PACKED,
    SEPARATORS,
    TABLE_ENDINGS,
    TextFormat,
    ending_of,
    parse_encoding,
    parse_separator,
    refuse_unreadable,
)
from recbole_mm.prepare.inputs import InputError, require_file
from recbole_mm.prepare.layouts import LAYOUTS, find_files
from recbole_mm.prepare.pair_columns import time_unit
from recbole_mm.tools.command_lines import path_argument
from recbole_mm.tools.files import refuse_input_as_output

VECTORS_NAME = "clip_vit_b32.npz"
OF_OWN_TABLES = (
    "user_column", "item_column", "key_column", "rating_column", "time_column", "separator",
    "no_quotes", "time_format",
)  # fmt: skip
"""Options for what a layout already defines."""
KEPT = re.compile(
    r"(?P<name>[A-Za-z_][\w.-]*)(:(?P<kind>token|float))?(=(?P<column>.+))?", re.DOTALL
)


def main(arguments: list[str]) -> None:
    args = read_arguments(arguments)
    require_writable_folders(args.output, args.name)
    from recbole_mm.prepare.own_tables import prepare

    print(prepare(args).summary())


def read_arguments(arguments: list[str]):
    """Parse the command line, and find every file that it names or that its folder holds.

    Raises:
        InputError: a file or folder is missing, or its name cannot be used.
    """
    args = _parser().parse_args(arguments)
    args.command = command_line("prepare", arguments)
    hint = "; keep other columns with --keep"
    args.item_text = dict.fromkeys(ITEM_FIELDS) | parse_item_text(args.item_text, hint)
    if args.folder and not args.folder.is_dir():
        raise InputError(f"{args.folder}: no such folder.")
    if args.layout:
        _look_for_layout(args)
    else:
        _look_for_tables(args)
    if not args.interactions:
        raise InputError("name a folder, or the file of interactions with --interactions=FILE.")
    for table, text in ((args.interactions, args.text), (args.items, args.items_text)):
        if table:
            refuse_unreadable(table, text)
    _check_features(args)
    args.name = args.name or args.interactions.resolve().parent.name
    refuse_unusable_name(args.name)
    _refuse_own_tables(args)
    args.keep = dict(_kept(option) for option in args.keep)
    if args.keep and not args.items:
        raise InputError("--keep needs the table of items: name it with --items=FILE.")
    return args


def _parser():
    parser = parser_of("prepare", __doc__)
    parser.add_argument(
        "folder", nargs="?", type=path_argument, help="folder with interactions.csv, items.jsonl"
    )
    parser.add_argument("--name", help="name of the data set [the folder's]")
    parser.add_argument(
        "--layout",
        choices=list(LAYOUTS),
        help="a public data set as its authors lay it out; its columns and formats are known",
    )
    add_output(parser)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--interactions", type=path_argument, metavar="FILE", help="one row per event"
    )
    files.add_argument("--items", type=path_argument, metavar="FILE", help="one row per item")
    files.add_argument(
        "--images",
        type=path_argument,
        metavar="FOLDER",
        help="folder of pictures, named after their items",
    )
    files.add_argument(
        "--vectors", type=path_argument, help=f"a file like {VECTORS_NAME}, or its folder"
    )
    columns = parser.add_argument_group("columns")
    columns.add_argument("--user-column", metavar="COLUMN", help="[user]")
    columns.add_argument("--item-column", metavar="COLUMN", help="[item]")
    columns.add_argument("--key-column", metavar="COLUMN", help=KEY_COLUMN)
    columns.add_argument("--rating-column", metavar="COLUMN", help="[rating, if there is one]")
    columns.add_argument("--time-column", metavar="COLUMN", help="[timestamp, if there is one]")
    add_item_text(columns)
    columns.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="NAME[:token|:float][=COLUMN]",
        help="keep a further column of the items in .item; float if all its values are numbers "
        "(without leading zeros), else token; may be repeated",
    )
    forms = parser.add_argument_group("how the tables are written")
    forms.add_argument(
        "--separator",
        type=parse_separator,
        help="separator of csv columns [,]; tab for a tab",
    )
    forms.add_argument(
        "--encoding",
        type=parse_encoding,
        default="utf-8",
        help="text encoding of csv and tsv [utf-8]",
    )
    forms.add_argument(
        "--no-quotes", action="store_true", help='read " in csv and tsv as an ordinary character'
    )
    forms.add_argument(
        "--time-unit", choices=list(SECONDS_PER_UNIT), help="unit of numeric times [s]"
    )
    forms.add_argument(
        "--time-format",
        metavar="FORMAT",
        help="format of times as text, as for strptime: '%%d/%%m/%%Y %%H:%%M' [ISO 8601, the year "
        "first]; times without a zone are UTC",
    )
    forms.add_argument("--drop-bad-rows", action="store_true", help="drop and count bad rows")
    rows = parser.add_argument_group("what is kept")
    rows.add_argument("--core", type=int, default=0, help="k of the iterated k-core [none]")
    rows.add_argument("--repeats", choices=["keep", "first", "last"], default="keep")
    rows.add_argument(
        "--only-items-with-interactions", action="store_true", help="exclude new items"
    )
    features = parser.add_argument_group("features")
    add_encoder(features)
    add_like(features)
    features.add_argument("--no-features", action="store_true", help="tables only")
    return parser


def _refuse_own_tables(args) -> None:
    """Refuse tables of the data set itself as inputs."""
    for ending in ("inter", "item"):
        path = args.output / args.name / f"{args.name}.{ending}"
        inputs = {"--interactions": args.interactions, "--items": args.items}
        refuse_input_as_output(path, inputs, "the file of the data set, ")


def _check_features(args) -> None:
    """Check that the file of vectors and the folder of pictures exist."""
    if args.vectors and args.vectors.is_dir():
        args.vectors = args.vectors / VECTORS_NAME
    if args.vectors:
        require_file(args.vectors)
    if args.vectors and _chooses_features(args):
        raise InputError(
            "--vectors has the features: omit --encoder, --like, --modalities and --no-features"
        )
    if args.like and (args.encoder or args.no_features):
        raise InputError(
            "--like names the encoder of the features: omit --encoder and --no-features"
        )
    if args.images and not args.images.is_dir():
        raise InputError(f"{args.images}: no such folder.")


def _look_for_layout(args) -> None:
    """Find the files of a layout, and how they are read.

    Raises:
        InputError: a file is missing or has another layout, or an option is for your own tables.
    """
    for option in OF_OWN_TABLES:
        if getattr(args, option):
            raise InputError(
                f"--{option.replace('_', '-')}: --layout={args.layout} defines columns and "
                f"formats. Omit one of the two options."
            )
    args.name = args.name or (args.folder and args.folder.resolve().name)
    given = {"interactions": args.interactions, "items": args.items, "images": args.images}
    found = find_files(args.layout, args.folder, args.name or "", given)
    for table in (found["interactions"], found["items"]):
        require_file(table)
        if ending_of(table) not in SEPARATORS:
            raise InputError(
                f"{table}: files of --layout={args.layout} end in {' or '.join(SEPARATORS)}, also packed "
                f"({PACKED}). Name another file, or omit --layout."
            )
    layout = LAYOUTS[args.layout]
    tables = layout.tables(found["interactions"], found["items"], args.encoding)
    args.interactions, args.items, args.images = (
        tables.interactions,
        found["items"],
        found["images"],
    )
    vars(args).update(tables.columns)
    args.key_column = tables.key_column
    args.item_text |= {
        field: args.item_text[field] or name for field, name in tables.item_text.items()
    }
    args.text, args.items_text = tables.text, tables.items_text
    if args.time_column:
        unit = time_unit(args.interactions, args.time_column, args.text)
        args.time_unit = args.time_unit or unit
    print(
        f"{args.interactions}: user {args.user_column!r}, item {args.item_column!r}, "
        f"time {args.time_column or 'none'!r}{f' in {args.time_unit}' if args.time_unit else ''}; items "
        f"{args.items}; pictures {args.images or 'none'}{tables.remark and f'; {tables.remark}'}\nTerms of the data set: {layout.terms}."
    )


def _look_for_tables(args) -> None:
    """Find the tables of a folder, and how your own tables are read."""
    args.text = args.items_text = TextFormat(args.separator, args.encoding, not args.no_quotes)
    args.user_column, args.item_column = args.user_column or "user", args.item_column or "item"
    if args.folder:
        _look_into(args)


def _look_into(args) -> None:
    """Find the files of a folder that the command line does not name."""
    args.interactions = args.interactions or _table_in(args.folder, "interactions")
    args.items = args.items or _table_in(args.folder, "items", required=False)
    vectors = args.folder / VECTORS_NAME
    if args.vectors is None and not _chooses_features(args) and vectors.is_file():
        args.vectors = vectors
        print(
            f"{vectors}: its vectors are the features, unless --encoder, --like, --modalities or "
            "--no-features is given"
        )


def _chooses_features(args) -> bool:
    chosen = args.no_features or args.encoder or args.like
    return bool(chosen or args.modalities != list(MODALITIES))


def _table_in(folder: Path, stem: str, required: bool = True) -> Path | None:
    found = [folder / f"{stem}{ending}" for ending in TABLE_ENDINGS]
    found = [path for path in found if path.is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{folder}: it has {names}; name one of them with --{stem}=FILE.")
    if required and not found:
        raise InputError(
            f"{folder}: no {stem}.csv in it (or {', '.join(TABLE_ENDINGS[1:])}); name the file with "
            f"--{stem}=FILE."
        )
    return found[0] if found else None


def _kept(option: str) -> tuple[str, tuple[str, str | None]]:
    match = KEPT.fullmatch(option)
    if match is None:
        raise InputError(
            f"--keep {option!r}: the name of a field has letters, digits, _, - and .; give it one, as "
            f"in --keep my_field={option!r}."
        )
    name = match["name"]
    if name in FIELD_TYPES:
        raise InputError(
            f"--keep {option!r}: {name} is already a field of the data set; give it another name, as "
            f"in --keep item_{name}={match['column'] or name!r}."
        )
    return name, (match["column"] or name, match["kind"])
