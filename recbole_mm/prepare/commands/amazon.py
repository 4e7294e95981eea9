"""Make a data set from the Amazon reviews of 2014, 2018 or 2023.

    recbole-mm amazon Pantry --download --pictures
    recbole-mm amazon Toys --layout=2014 --encoder=openai/clip-vit-base-patch32 --download --pictures
    recbole-mm amazon Video_Games --layout=2023 --name=Games23 --download
    recbole-mm amazon --name=Mine --reviews=Gift_Cards.csv --meta=meta.json.gz

Short names are Food, Home, CDs, Kindle, Movies, Pantry, Scientific, Instruments, Arts, Office and
Toys; any other category goes by its full name. Without --download, the files must be in the --raw
folder under the names that their publishers gave them. The same command resumes after an
interruption, and retries the pictures that may still become available.

Repeated reviews of an item by the same user count once, at the first time (--repeats). Then users
and items with fewer than 5 reviews are removed until all have at least 5 (--core). Reviews are
dated by day; those of the same day stay in the order of the file. Files are streamed.
"""

import textwrap
from pathlib import Path

from recbole_mm.prepare.commands.options import add_encoder, add_output, command_line, parser_of
from recbole_mm.prepare.folders import refuse_unusable_name
from recbole_mm.prepare.mirrors import DEFAULT_LAYOUT, LAYOUTS, SHIPPED, Mirrors
from recbole_mm.prepare.recipe import Recipe
from recbole_mm.tools.command_lines import path_argument


def read_arguments(arguments: list[str]):
    parser = parser_of("amazon", __doc__)
    parser.epilog = _categories()
    parser.add_argument("category", nargs="?", help="short name or name of the category")
    parser.add_argument("--name", help="name of the data set [the category as given]")
    parser.add_argument(
        "--layout",
        type=int,
        choices=LAYOUTS,
        help="year of the collection [2018; Toys 2014]",
    )
    parser.add_argument(
        "--raw", type=path_argument, help="folder of the downloaded files [raw/LAYOUT]"
    )
    parser.add_argument(
        "--reviews", type=path_argument, help="your own reviews: csv or JSON lines, plain or .gz"
    )
    parser.add_argument(
        "--meta", type=path_argument, help="your own metadata: JSON lines, plain or .gz"
    )
    parser.add_argument(
        "--download", action="store_true", help="download what is not in the raw folder"
    )
    parser.add_argument("--pictures", action="store_true", help="download the items' pictures")
    parser.add_argument(
        "--mirrors", type=path_argument, help=f"file of download addresses [{SHIPPED}]"
    )
    add_output(parser)
    parser.add_argument("--core", type=int, default=5, help="k of the iterated k-core [5]")
    parser.add_argument("--repeats", choices=["keep", "first", "last"], default="first")
    add_encoder(parser)
    parser.add_argument("--no-features", action="store_true", help="tables only")
    args = parser.parse_args(arguments)
    args.name = args.name or args.category
    if not args.name or not (args.category or args.reviews):
        parser.error("name a category, or --name and --reviews")
    refuse_unusable_name(args.name)
    return args


def _categories() -> str:
    lines = [
        f"categories of {year}: {', '.join(lists['categories'])}"
        for year, lists in Mirrors().layouts.items()
    ]
    return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


def main(arguments: list[str]) -> None:
    args = read_arguments(arguments)
    mirrors = Mirrors(args.mirrors)
    source = None if args.reviews else mirrors.require_source(args.category, args.layout)
    layout = args.layout or (source.layout if source else DEFAULT_LAYOUT)
    recipe = Recipe(
        args.name,
        layout,
        args.output,
        args.raw or Path("raw", str(layout)),
        source,
        args.reviews,
        args.meta,
        args.download,
        args.pictures,
        args.core,
        args.repeats,
    )
    recipe.require_files()
    from recbole_mm.prepare.amazon import make, what_is_missing
    from recbole_mm.prepare.extract import load_encoder

    command = command_line("amazon", arguments)
    encoder = load_encoder(args.encoder)
    modalities = () if args.no_features else tuple(args.modalities)
    (dataset,) = make([recipe], mirrors, encoder, modalities, command)
    print("\n".join([dataset.summary(), *what_is_missing(dataset)]))
