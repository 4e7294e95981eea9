"""Make a data set from your own tables, pictures and vectors.

    recbole-mm prepare Shop                  # a folder
    recbole-mm prepare --name=Shop --interactions=orders.parquet --items=goods.csv \
        --images=photos --user-column=customer --item-column=sku --time-column=ordered_at

A folder holds interactions.csv (user, item, rating, timestamp), items.jsonl (item, title, brand,
categories, description, image) and, if it likes, images/ and clip_vit_b32.npz (ready-made
vectors); any column, file and format (csv, tsv, parquet, jsonl) can be named. Written are
dataset/NAME/NAME.{inter,item,text.npz,image.npz,card.json}.
"""

from pathlib import Path

from recbole_mm.prepare.commands.options import add_output, pairs, parser_of
from recbole_mm.prepare.fields import ITEM_FIELDS, SECONDS_PER_UNIT
from recbole_mm.prepare.inputs import InputError

VECTORS_NAME = "clip_vit_b32.npz"


def read_arguments(arguments=None):
    parser = parser_of("prepare", __doc__)
    parser.add_argument("folder", nargs="?", type=Path, help="with interactions.csv, items.jsonl")
    parser.add_argument("--name", help="of the data set [the folder's]")
    add_output(parser)
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
        help=f"where {', '.join(ITEM_FIELDS)} of an item stand [columns of these names]",
    )
    parser.add_argument("--time-unit", choices=list(SECONDS_PER_UNIT), default="s")
    parser.add_argument("--core", type=int, default=0, help="k of the iterated k-core [none]")
    parser.add_argument("--repeats", choices=["keep", "first", "last"], default="keep")
    parser.add_argument("--drop-bad-rows", action="store_true", help="leave them out, count them")
    parser.add_argument("--encoder", help="of texts and pictures [embedded: no weights]")
    parser.add_argument("--no-features", action="store_true", help="tables only")
    args = parser.parse_args(arguments)
    if args.folder:
        if not args.folder.is_dir():
            raise InputError(f"{args.folder}: no such folder.")
        args.interactions = args.interactions or args.folder / "interactions.csv"
        args.items = args.items or _if_there(args.folder / "items.jsonl")
        args.vectors = args.vectors or _if_there(args.folder / VECTORS_NAME)
    if not args.interactions:
        parser.error("name a folder, or --interactions=FILE")
    if args.vectors and args.vectors.is_dir():
        args.vectors = args.vectors / VECTORS_NAME
    args.name = args.name or args.interactions.resolve().parent.name
    args.item_text = dict.fromkeys(ITEM_FIELDS) | dict(pairs(args.item_text))
    unknown = set(args.item_text) - set(ITEM_FIELDS)
    if unknown:
        parser.error(f"--item-text {sorted(unknown)}: the fields are {ITEM_FIELDS}")
    return args


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def main(arguments=None) -> None:
    args = read_arguments(arguments)
    for path in (args.interactions, args.items, args.vectors):
        if path and not path.is_file():
            raise InputError(f"{path}: no such file.")
    from recbole_mm.prepare.own_tables import prepare

    print(prepare(args).summary())
