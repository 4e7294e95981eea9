"""Tune a text encoder on the training part of a data set, for features that fit the domain.

    recbole-mm tune-encoder Toys --encoder=sentence-transformers/all-MiniLM-L6-v2
    recbole-mm tune-encoder Toys --encoder=Qwen/Qwen3-Embedding-0.6B --lora-rank=16
    recbole-mm tune-encoder Toys --encoder=intfloat/e5-base-v2 --max-pairs=20000 --tie_order=item
    recbole-mm extract Toys --encoder=encoders/Toys-all-MiniLM-L6-v2    # the modality tuned_text

The text of an item and the text of the same user's next item are pulled together, and the other
texts of a batch are pushed apart. Pairs come only from the training part, which depends on the same
keys as the split of a run (--tie_order, --eval_args, --held_out_items, ...). The split is recorded
with the encoder and with its features: both are refused with a split whose training part has other
events.

The same command resumes after an interruption, and a finished tuning is not repeated.
"""

from pathlib import Path

from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.encoder_tuning.settings import (
    LEARNING_RATE,
    LORA_LEARNING_RATE,
    EncoderTuningSettings,
)
from recbole_mm.prepare.commands.options import parser_of
from recbole_mm.prepare.fields import TEXT_FIELDS
from recbole_mm.tools.command_lines import path_argument, shell_line
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.extras import require_installed

EXTRA = "tune-encoder"
PACKAGES = ("sentence_transformers", "accelerate", "datasets")
SPLIT_ALONE = {
    "modalities": [], "loss_positions": "last", "shuffle_ties": False, "crop_share": 0.0,
    "train_stage": "finetune", "domain_sampling": "proportional", "domain_curriculum": 0,
}  # fmt: skip
"""Fixed values for the settings of a data set that do not concern the split."""
ANY_MODEL = "SASRec"
"""An arbitrary model: RecBole opens a data set only for a model."""


def main(arguments: list[str]) -> int:
    """Run the command.

    Raises:
        UserError: see :func:`recbole_mm.encoder_tuning.tune.tune_encoder`.
    """
    args, rest = _parser().parse_known_args(arguments)
    overrides = parse_overrides(rest)
    without_effect = sorted(SPLIT_ALONE.keys() & overrides.keys())
    if without_effect:
        raise UserError(
            f"--{without_effect[0]}: it has no effect on the pairs of tune-encoder; omit it"
        )
    settings = _settings(args)
    settings.refuse_unusable()
    lora = ("peft",) if settings.lora_rank else ()
    require_installed("tune-encoder", EXTRA, (*PACKAGES, *lora))
    from recbole_mm.config.load import load_config
    from recbole_mm.encoder_tuning.tune import tune_encoder

    config = load_config(
        ANY_MODEL, args.dataset, args.config_files, overrides={**overrides, **SPLIT_ALONE}
    )
    target = args.out or Path("encoders", f"{args.dataset}-{Path(args.encoder).name}")
    tuned = tune_encoder(config, args.encoder, target, settings, args.device)
    print(f"{target}: {'written' if tuned else 'exists already, tuned in the same way'}")
    extract = shell_line(["recbole-mm", "extract", args.dataset, f"--encoder={target}"])
    print(f"to extract its features: {extract}")
    return 0


def _settings(args) -> EncoderTuningSettings:
    rate = LORA_LEARNING_RATE if args.lora_rank else LEARNING_RATE
    given = {name: getattr(args, name) for name in EncoderTuningSettings._fields}
    given["learning_rate"] = rate if args.learning_rate is None else args.learning_rate
    return EncoderTuningSettings(**{**given, "text_fields": list(args.text_fields)})


def _parser():
    usual = EncoderTuningSettings(list(TEXT_FIELDS))
    parser = parser_of("tune-encoder", __doc__)

    def add(name: str, **options) -> None:
        """An option, also in the spelling of RecBole's keys."""
        parser.add_argument(*dict.fromkeys([name, f"--{name[2:].replace('-', '_')}"]), **options)

    parser.add_argument("dataset", help="name of a data set with texts")
    add("--encoder", required=True, help="a model on the Hugging Face hub, or a folder, with a "
        "sentence-transformers configuration")  # fmt: skip
    add(
        "--out",
        type=path_argument,
        metavar="FOLDER",
        help="folder of the tuned encoder [encoders/DATASET-ENCODER]",
    )
    add("--text-fields", nargs="+", default=TEXT_FIELDS, choices=TEXT_FIELDS)
    add("--window", type=int, default=usual.window, metavar="N",
        help="join the texts of 1 to N last items, a number drawn for each pair "
        f"[{usual.window}]")  # fmt: skip
    add("--max-pairs", type=int, metavar="N", help="number of pairs to draw at random [all]")
    add("--epochs", type=int, default=usual.epochs, help=f"passes over the pairs [{usual.epochs}]")
    add("--batch-size", type=int, default=usual.batch_size,
        help="pairs that are contrasted with each other; more than 64 need no more memory "
        f"[{usual.batch_size}]")  # fmt: skip
    add("--learning-rate", type=float, metavar="RATE",
        help=f"[{LEARNING_RATE}, with LoRA {LORA_LEARNING_RATE}]")  # fmt: skip
    add("--temperature", type=float, default=usual.temperature,
        help=f"number that cosines are divided by [{usual.temperature}]")  # fmt: skip
    add("--max-length", type=int, default=usual.max_length, metavar="N",
        help=f"maximum number of tokens of a text during tuning [{usual.max_length}]")  # fmt: skip
    add("--lora-rank", type=int, default=usual.lora_rank, metavar="N",
        help="train matrices of this rank instead of all weights (LoRA, for large encoders)")  # fmt: skip
    add("--seed", type=int, default=usual.seed, help=f"random seed [{usual.seed}]")
    add("--device", choices=["cpu", "cuda"], help="[the GPU if there is one]")
    add_config_files_option(parser)
    return parser
