"""Inspect a prepared data set: its figures, two baselines, warnings, and a sheet of pictures.

    recbole-mm inspect Toys

The figures go to the screen and into NAME.card.json. The sheet, NAME.sheet.png, shows some items,
each with its nearest neighbors by text and by picture features.
"""

from recbole_mm.prepare.commands.options import add_fields, add_output, parser_of
from recbole_mm.prepare.folders import require_finished, require_writable_folders


def main(arguments: list[str]) -> None:
    parser = parser_of("inspect", __doc__)
    parser.add_argument("name", help="name of a prepared data set")
    add_output(parser)
    add_fields(parser)
    args = parser.parse_args(arguments)
    require_writable_folders(require_finished(args.output, args.name))
    from recbole_mm.prepare.inspection import inspect
    from recbole_mm.prepare.prepared import PreparedDataset

    inspect(PreparedDataset(args.output, args.name, vars(args)))
