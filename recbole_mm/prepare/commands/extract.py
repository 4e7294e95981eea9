"""Create feature files, one per modality, for prepared data sets.

    recbole-mm extract Toys                  # embedded extractor, no weights
    recbole-mm extract Toys --encoder=openai/clip-vit-base-patch32
    recbole-mm extract Toys --encoder=sentence-transformers/all-MiniLM-L6-v2 --modalities text
    recbole-mm extract Toys --encoder=intfloat/e5-base-v2 --modalities text --prompt='passage: '
    recbole-mm extract Toys --encoder=BAAI/bge-base-en-v1.5 --modalities text --save-as bge
    recbole-mm extract Toys --encoder=encoders/Toys-tuned        # from recbole-mm tune-encoder
    recbole-mm extract Toys --modality audio=feats.npy --tokens=items.txt
    recbole-mm extract ToysSource ToysGames  # one space for both
    recbole-mm extract ToysGames --like=ToysSource               # in the space that the other one has

An encoder is a folder, or a model on the Hugging Face hub. A model that carries a configuration of
sentence-transformers (modules.json: most E5, BGE, GTE, Qwen3-Embedding and MiniLM models, CLIP models
of sentence-transformers) gives the vectors that its author intended: its pooling, its
normalization, and its prompt for documents if it has one (named document, passage or corpus, else
its default prompt). Any other model that AutoModel loads works too: CLIP, SigLIP and BLIP give
their text and image features, text models the mean over their tokens, picture models their pooled
output. Code in a model's repository is never executed.

The features become the modality text or image; --save-as gives them a name of their own, so that
several encoders can be used together. An encoder that recbole-mm tune-encoder has tuned makes
tuned_text.

An interrupted run resumes: finished chunks stay in a hidden folder next to the features until these
are complete, and are reused only for the same encoder, settings and input.
"""

from recbole_mm.prepare.commands.options import (
    MODALITIES,
    add_fields,
    add_like,
    add_output,
    pairs,
    parser_of,
)
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.prepare.folders import require_finished, require_writable_folders
from recbole_mm.tools.command_lines import path_argument

OF_ENCODERS = ("--pooling", "--prompt", "--prompt-name")
"""Options that say how an encoder is used."""

OF_RECORDED_FEATURES = ("--save-as", "--normalize", "--dimension", "--text-fields")
"""Options that say how features are made, which feature files record."""

OF_MADE_FEATURES = (*OF_RECORDED_FEATURES, "--batch-size")
"""Options that say how features are made."""


def read_arguments(arguments: list[str]):
    parser = parser_of("extract", __doc__)
    parser.add_argument("names", nargs="+", help="names of prepared data sets")
    add_output(parser)
    add_fields(parser)
    parser.add_argument("--encoder", help="a model on the Hugging Face hub, or a folder [embedded]")
    add_like(parser)
    parser.add_argument(
        "--modalities", nargs="+", help="text, image or both [both; text for a tuned encoder]"
    )
    parser.add_argument(
        "--save-as",
        metavar="NAME",
        help="name of the modality [text, image; tuned_text for a tuned encoder]",
    )
    parser.add_argument(
        "--modality",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="your own vectors: .npz with item_id and feature, or .npy with a row per item",
    )
    parser.add_argument(
        "--tokens",
        type=path_argument,
        metavar="FILE",
        help="item token of each row of an .npy, one per line [the order of the .item file]",
    )
    parser.add_argument("--text-fields", nargs="+", default=TEXT_FIELDS, choices=TEXT_FIELDS)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--dimension", type=int, help="width of the embedded vectors [128]")
    parser.add_argument(
        "--pooling",
        choices=["mean", "cls"],
        help="pooling of the tokens, for text models without one of their own [mean]",
    )
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument(
        "--prompt",
        help="prefix of every text: 'passage: '; '' for none [the model's own for documents]",
    )
    prompts.add_argument(
        "--prompt-name", metavar="NAME", help="one of the model's own prompts, by its name"
    )
    parser.add_argument("--normalize", action="store_true", help="scale vectors to length 1")
    parser.add_argument("--device", help="cpu, cuda, ... [the GPU if there is one]")
    args = parser.parse_args(arguments)
    unknown = set(args.modalities or ()) - {"text", "image"}
    if unknown:
        parser.error(
            f"--modalities {sorted(unknown)}: encoders create text and image; add vectors of your "
            f"own with --modality NAME=FILE"
        )
    if args.save_as is not None and (
        not args.save_as.isidentifier() or len(args.modalities or ()) != 1
    ):
        parser.error(
            "--save-as takes a name of letters, digits and _, with --modalities text or image"
        )
    args.modality = pairs(args.modality)
    if any(not name.isidentifier() or not file for name, file in args.modality):
        parser.error("--modality takes NAME=FILE, as in audio=feats.npy")
    _refuse_conflicts(parser, args)
    return args


def _refuse_conflicts(parser, args) -> None:
    """Exit with a message if options exclude each other, or would have no effect."""
    if args.modality and (args.encoder or args.like):
        parser.error(
            "--modality adds vectors of your own, --encoder and --like create them: give one"
        )
    if args.like and args.encoder:
        parser.error("--like names the encoder of the features: omit --encoder")
    if args.modality:
        _refuse(
            parser, args, (*OF_ENCODERS, *OF_MADE_FEATURES), "--modality adds vectors as they are"
        )
    elif args.like:
        reason = "--like makes features as they were made"
        _refuse(parser, args, (*OF_ENCODERS, *OF_RECORDED_FEATURES), reason)
    elif not args.encoder:
        _refuse(parser, args, OF_ENCODERS, "it needs --encoder")


def _refuse(parser, args, options: tuple[str, ...], reason: str) -> None:
    """Exit with a message if one of these options is given, since it would have no effect."""
    for option in options:
        name = option[2:].replace("-", "_")
        if getattr(args, name) != parser.get_default(name):
            parser.error(f"{option} has no effect: {reason}")


def main(arguments: list[str]) -> None:
    args = read_arguments(arguments)
    for name in args.names:
        require_writable_folders(require_finished(args.output, name))
    from recbole_mm.prepare.prepared import PreparedDataset

    datasets = [PreparedDataset(args.output, name, vars(args)) for name in args.names]
    if args.modality:
        from recbole_mm.prepare.ready_made import add_ready_made

        for name, file in args.modality:
            for dataset in datasets:
                add_ready_made(dataset, name, file, args.tokens)
        return
    if args.like:
        from recbole_mm.prepare.alike import extract_like, ways_of

        ways = ways_of(args.like, args.output, args.modalities or MODALITIES, args.device)
        extract_like(datasets, ways, args.batch_size)
        return
    from recbole_mm.prepare.extract import extract, load_encoder

    encoder = load_encoder(
        args.encoder,
        pooling=args.pooling,
        device=args.device,
        prompt=args.prompt,
        prompt_name=args.prompt_name,
    )
    tuned = encoder is not None and encoder.tuning is not None
    extract(
        datasets,
        encoder,
        args.modalities or (["text"] if tuned else ["text", "image"]),
        args.text_fields,
        args.batch_size,
        args.dimension,
        args.normalize,
        args.save_as,
    )
