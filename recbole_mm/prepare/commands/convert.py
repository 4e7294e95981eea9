"""Convert the processed folders of the papers' authors, with the same splits.

    recbole-mm convert missrec downstream/Scientific
    recbole-mm convert mmm4rec processed/Scientific

Layout missrec (which UniSRec shares): NAME.{train,valid,test}.inter with item_id_list,
NAME.item2index, NAME.text, NAME.feat1CLS (text) and NAME.feat3CLS (pictures), raw float32, a zero
row where an item has none. Layout mmm4rec: {train,eval,test}_seq.jsonl, {item,user}2id.jsonl,
item.jsonl, text_feat.pth, image_feat.pth. Nothing in the files is executed: pickles are read as
plain tensors.

These folders hold every prefix of every user. The data set holds each user's events once;
leave-one-out splitting gives the same training, validation and test rows, which is checked row by
row.
"""

from recbole_mm.prepare.commands.options import add_output, command_line, parser_of
from recbole_mm.prepare.folders import refuse_unusable_name, require_writable_folders
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools.command_lines import path_argument


def main(arguments: list[str]) -> None:
    parser = parser_of("convert", __doc__)
    parser.add_argument("layout", choices=["missrec", "mmm4rec"])
    parser.add_argument("folder", type=path_argument, help="the authors' processed folder")
    parser.add_argument("--name", help="name of the folder's files and of the data set [FOLDER's]")
    add_output(parser)
    args = parser.parse_args(arguments)
    if not args.folder.is_dir():
        raise InputError(f"{args.folder}: no such folder.")
    name = args.name or args.folder.resolve().name
    refuse_unusable_name(name)
    require_writable_folders(args.output, name)
    from recbole_mm.prepare.making import made_whole

    if args.layout == "missrec":
        from recbole_mm.prepare.convert_missrec import convert_missrec as convert
    else:
        from recbole_mm.prepare.convert_mmm4rec import convert_mmm4rec as convert

    with made_whole(args.output, name, command_line("convert", arguments)):
        dataset = convert(args.folder, name, args.output)
    print(dataset.summary())
