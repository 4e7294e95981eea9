"""Save a trained model of this package with its items as a bundle.

    recbole-mm export saved/MMM4Rec-....pth bundles/Toys
    recbole-mm export bundles/Toys bundles/ToysToday --catalog=today.parquet
    recbole-mm export bundles/Toys bundles/ToysFast --onnx --index=hnsw

A bundle is a folder that recommends without the data set, that can be shared (for example on the
Hugging Face hub), and that executes nothing when it is opened. It holds the parameters, the features and
ids of the items and, if the data set has them, their titles and the names of their pictures, but no
users or histories. The model is tested first, and its card states the metrics with their intervals.

--onnx adds a folder onnx/ that recommends without torch: the user encoder and the scores as ONNX
graphs, and the items as matrices (examples/serve_onnx.py). --index adds a search index of the items.
The command prints how closely onnxruntime agrees with torch, and the recall of the index.
"""

from recbole_mm.prepare.commands.options import parser_of
from recbole_mm.recommend.item_options import (
    add_item_options,
    add_text_options,
    change_items,
    read_item_options,
    text_of,
)
from recbole_mm.recommend.paths import require_model
from recbole_mm.tools.command_lines import path_argument, with_dashes
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import require_installed


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        UserError: the checkpoint or its data set cannot be used, or the folder exists.
    """
    parser = parser_of("export", __doc__)
    parser.add_argument(
        "checkpoint",
        help="checkpoint of a training, or a bundle, or OWNER/NAME of one on the Hugging Face hub",
    )
    parser.add_argument("folder", type=path_argument, help="folder of the new bundle")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing bundle")
    parser.add_argument("--no-test", action="store_true", help="do not test the model")
    parser.add_argument("--onnx", action="store_true", help="also write ONNX graphs and matrices")
    parser.add_argument(
        "--index",
        choices=["exact", "hnsw"],
        help="also write an index of the items for faiss; implies --onnx",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... [a GPU if there is one]")
    parser.add_argument(
        "--data-path", metavar="FOLDER", help="folder of the data sets [that of the training]"
    )
    add_item_options(parser)
    forms = parser.add_argument_group("how the tables are written").add_argument
    forms("--item-column", metavar="COLUMN", help="[item or item_id]")
    add_text_options(forms)
    options = parser.parse_args(with_dashes(arguments))
    text = text_of(options)
    read_item_options(options, text)
    require_model(options.checkpoint)
    if options.folder.exists() and not options.overwrite:
        raise UserError(
            f"{options.folder} exists; give another folder, or --overwrite to replace it"
        )
    if options.onnx or options.index:
        needed = ["onnx", "onnxscript", "onnxruntime"] + (["faiss"] if options.index else [])
        require_installed("--index" if options.index else "--onnx", "onnx", needed)

    from recbole_mm.recommend.recommender import Recommender
    from recbole_mm.recommend.tables import TableForm

    recommender = Recommender.from_pretrained(
        options.checkpoint, device=options.device, data_path=options.data_path
    )
    recommender.require_multi_modal("export")
    if recommender.has_data and not options.no_test:
        recommender.evaluate()
    change_items(recommender, options, TableForm(item=options.item_column, text=text))
    report = recommender.export(
        options.folder, options.overwrite, options.onnx or bool(options.index), options.index
    )
    size = sum(file.stat().st_size for file in options.folder.rglob("*"))
    n_items = len(recommender.catalog.tokens) - 1
    print(
        f"{options.folder}: {type(recommender.model).__name__}, {counted(n_items, 'item', 'items')}, "
        f"{size / 1e6:.1f} MB"
    )
    if report:
        print(report)
    return 0
