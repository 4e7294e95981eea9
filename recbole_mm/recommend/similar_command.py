"""Find the most similar items of each item with a trained model of this package.

    recbole-mm similar --model=bundles/Toys --output=similar.parquet --k=10
    recbole-mm similar --model=bundles/Toys --output=similar.csv --items=today.txt --by=text

The result has the columns item, by, similar, score (the cosine) and rank (from 1). Items are similar as
the model sees them (--by=fused), or by the features of one modality (--by=text).
"""

from recbole_mm.prepare.commands.options import parser_of
from recbole_mm.recommend.item_options import (
    add_item_options,
    add_model_and_output,
    add_text_options,
    change_items,
    inputs_of,
    read_item_options,
    refuse_unreadable_ids,
    text_of,
)
from recbole_mm.recommend.paths import require_model, require_new
from recbole_mm.tools.command_lines import path_argument, with_dashes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import refuse_input_as_output


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        UserError: the model, the output or an option cannot be used.
        RunFailed: the output cannot be written.
    """
    options = _read_arguments(arguments)

    from recbole_mm.recommend.disk import disk_errors
    from recbole_mm.recommend.output import write_result
    from recbole_mm.recommend.recommender import Recommender
    from recbole_mm.recommend.tables import TableForm, read_ids
    from recbole_mm.tools.files import whole_or_not

    recommender = Recommender.from_pretrained(
        options.model, device=options.device, data_path=options.data_path
    )
    recommender.require_multi_modal("similar")
    form = TableForm(item=options.item_column, text=options.text)
    change_items(recommender, options, form)
    tokens = recommender.catalog.tokens[1:].to_list()
    items = read_ids(options.items, "item", form) if options.items else tokens
    table = recommender.similar_items(items, options.k, options.by)
    with disk_errors(options.output), whole_or_not(options.output) as temporary:
        write_result(table.lazy(), options.output, temporary)
    print(f"{options.output}: {_summary(len(set(items)), table['item'].n_unique())}")
    return 0


def _summary(n_items: int, n_with_neighbors: int) -> str:
    text = counted(n_items, "item", "items")
    without = n_items - n_with_neighbors
    return f"{text}; {without:,} without features have no similar ones" if without else text


def _read_arguments(arguments: list[str]):
    parser = parser_of("similar", __doc__)
    add = parser.add_argument
    add_model_and_output(add)
    add("--k", type=int, default=10, help="similar items per item [10]")
    add("--by", default="fused", help="a modality, or fused: all that the model ranks by [fused]")
    add("--items", type=path_argument, metavar="FILE", help="items whose similar items are "
        "found: text with one id per line (.txt), or a table [all]")  # fmt: skip
    add("--device", help="cpu, cuda, cuda:1, ... [a GPU if there is one]")
    add("--data-path", metavar="FOLDER", help="folder of the data sets [that of the training]")
    add_item_options(parser)
    forms = parser.add_argument_group("how the tables are written").add_argument
    forms("--item-column", metavar="COLUMN", help="[item or item_id]")
    add_text_options(forms)
    options = parser.parse_args(with_dashes(arguments))
    options.text = text_of(options)
    if options.k < 1:
        raise UserError(f"--k={options.k}: give a number >= 1")
    require_model(options.model)
    refuse_unreadable_ids(options.items, options.text)
    read_item_options(options, options.text)
    refuse_input_as_output(options.output, inputs_of(options, "model", "items"))
    options.output = require_new(options.output, options.overwrite)
    return options
