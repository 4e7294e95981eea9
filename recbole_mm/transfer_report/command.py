r"""What pre-training brought, against its controls: the command ``recbole-mm transfer-report``.

For each target of a file of stages, with and without ID as the file has it: trained from scratch,
transferred with the encoder frozen, transferred and all of it trained, tested as it came out of
pre-training (zero-shot), and tested with random weights over the same features (untrained).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from recbole.utils import get_model

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import read_layers
from recbole_mm.config.values import add_config_files_option, parse_overrides
from recbole_mm.run.jobs import parse_seeds
from recbole_mm.run.result import Result
from recbole_mm.run.stages import plan_stages, run_stages
from recbole_mm.tools.files import require_writable, write_text

NOT_TRAINED = ("zero-shot", "untrained")
STARTS = ("scratch", "frozen", "unfrozen", *NOT_TRAINED)
"""What a fine-tuned model starts from, and the controls that nothing trains."""
WITHOUT_TRAINING: dict = {
    "epochs": 0, "freeze": [], "group_learning_rates": {}, "no_weight_decay": [], "use_item_id": False,
}  # fmt: skip
FROM_NOTHING: dict = {"pre_model_path": None, "reset": [], "allow_fewer_layers": False}
START_KEYS = WITHOUT_TRAINING.keys() | FROM_NOTHING.keys()
NEAR_BEST = 0.95
COLUMNS = (
    "target", "start", "metric", "seeds", "test", "valid", "epochs to best", "s to best",
    f"epochs to {NEAR_BEST:.0%}", f"s to {NEAR_BEST:.0%}",
)  # fmt: skip


class Variant(NamedTuple):
    """One way to start on one target, and its results, one for each seed."""

    target: str
    start: str
    results: list[Result]


def main(arguments: list[str]) -> int:
    """Run the command; see :data:`STARTS`.

    Raises:
        ConfigError: wrong usage, or whatever :func:`recbole_mm.run.stages.run_stages` refuses.
    """
    options, rest = _parser().parse_known_args(arguments)
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            "transfer-report draws with matplotlib: pip install 'recbole_mm[report]'"
        ) from error
    out = Path(options.out)
    require_writable(out, "Give another --out")
    seeds = parse_seeds(options.seeds)
    variants = run_variants(options.config_files, seeds, parse_overrides(rest))
    for path in write_report(variants, out):
        print(f"written: {path}")
    print(report_table(variants))
    return 0


def run_variants(config_files, seeds: list[int], overrides: dict) -> list[Variant]:
    """Pre-train and run every variant, for each seed; what is finished is not run again."""
    overlays, labels = variant_stages(config_files, overrides)
    others = {key: value for key, value in overrides.items() if key not in START_KEYS}
    results = [
        run_stages(
            config_files=config_files,
            config_dict={"stages": overlays},
            overrides={**others, "seed": seed},
        )
        for seed in seeds
    ]
    return [
        Variant(target, start, [of_seed[number] for of_seed in results])
        for number, (target, start) in enumerate(labels)
    ]


def variant_stages(config_files, overrides: dict) -> tuple[list[dict], list[tuple[str, str]]]:
    """The stages of a report, and (target, start) of each.

    What makes a start what it is wins over ``overrides``: ``--epochs=30`` trains no zero-shot.

    Raises:
        ConfigError: no finetune stage starts from anything.
    """
    stages = plan_stages(config_files=config_files, overrides=overrides)
    given = {key: value for key, value in overrides.items() if key in START_KEYS}
    overlays, labels, seen = [], [], set()
    for stage, overlay in zip(stages, read_layers(config_files)["stages"], strict=True):
        config = stage.config
        if config["train_stage"] == "pretrain":
            overlays.append({**overlay, **given})
            labels.append((f"{config['dataset']} (pre-training)", config["model"]))
            continue
        if stage.source is None and not config["pre_model_path"]:
            continue  # a control of the file's own
        changes: dict[str, dict] = {
            "scratch": {**FROM_NOTHING, "freeze": []},
            "frozen": {
                "freeze": config["freeze"] or list(get_model(config["model"]).encoder_parameters)
            },
            "unfrozen": {"freeze": []},
            "zero-shot": WITHOUT_TRAINING,
            "untrained": {**FROM_NOTHING, **WITHOUT_TRAINING},
        }
        setting = "with ID" if config["use_item_id"] else "without ID"
        for start in STARTS:
            said = "" if start in NOT_TRAINED else f" {setting}"
            target = f"{config['model']}, {config['dataset']}{said}"
            if (target, start) not in seen:
                seen.add((target, start))
                overlays.append({**overlay, **given, **changes[start]})
                labels.append((target, start))
    if not seen:
        raise ConfigError(f"{config_files}: no finetune stage starts from a pre-trained model")
    return overlays, labels


def time_to(result: Result, share: float) -> tuple[int, float] | None:
    """Epochs and seconds of training until ``share`` of the best validation score was reached;
    ``None`` if nothing was validated on the way."""
    history = result.history
    best = max((entry["valid_score"] for entry in history), default=0.0)
    for entry in history:
        if entry["valid_score"] >= share * best:
            return entry["epoch"] + 1, entry["seconds"]
    return None


def report_table(variants: list[Variant]) -> str:
    """Markdown: means and standard deviations over the seeds."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for target, start, results in variants:
        metric = results[0].valid_metric
        times = []  # epochs and seconds to the best score and to nearly the best
        for share in (1.0, NEAR_BEST):
            reached = [time_to(result, share) or (None, None) for result in results]
            times += [_spread(column, ".1f") for column in zip(*reached, strict=True)]
        rows.append(
            (
                target,
                start,
                metric,
                str(len(results)),
                _spread([(r.test_result or {}).get(metric) for r in results]),
                _spread([r.best_valid_score for r in results]),
                *times,
            )
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _spread(values: Sequence[float | None], form: str = ".4f") -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):  # a split without such targets
        return "-"
    text = format(mean(known), form)
    return f"{text} ± {stdev(known):{form}}" if len(known) > 1 else text


def convergence_figure(variants: list[Variant]):
    """Validation score by epoch, one panel per target, one line per seed; level where nothing
    is trained."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    trained = [v for v in variants if v.start in STARTS and v.start not in NOT_TRAINED]
    targets = list(dict.fromkeys(variant.target for variant in trained))
    figure = Figure(figsize=(5.5 * len(targets), 4), layout="constrained")
    panels = figure.subplots(1, len(targets), squeeze=False)[0]
    styles = dict(zip(STARTS, ("-", "--", "-.", ":", (0, (1, 4))), strict=True))
    for axes, target in zip(panels, targets, strict=True):
        shown = [v for v in trained if v.target == target]
        shown += [
            v for v in variants if v.start in NOT_TRAINED and target.startswith(f"{v.target} ")
        ]
        for number, variant in enumerate(shown):
            for repeat, result in enumerate(variant.results):
                line = {
                    "color": f"C{number}",
                    "linestyle": styles[variant.start],
                    "linewidth": 1,
                    "label": variant.start if repeat == 0 else None,
                }
                if variant.start in NOT_TRAINED:
                    if result.best_valid_score is not None:  # a split without validation
                        axes.axhline(result.best_valid_score, **line)
                    continue
                epochs = [entry["epoch"] + 1 for entry in result.history]
                axes.plot(epochs, [entry["valid_score"] for entry in result.history], **line)
        axes.set_title(target, fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"validation {shown[0].results[0].valid_metric}")
        axes.legend(frameon=False, fontsize=8)
    return figure


def write_report(variants: list[Variant], out: Path) -> list[Path]:
    """``transfer.md`` and ``convergence.png`` in the folder ``out``, which is there."""
    table, figure = out / "transfer.md", out / "convergence.png"
    write_text(table, report_table(variants) + "\n")
    convergence_figure(variants).savefig(figure, dpi=120)
    return [table, figure]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recbole-mm transfer-report",
        description="Compare transfer with its controls: scratch, frozen, unfrozen, zero-shot, untrained.",
        epilog="A finished stage is not run again: the same command goes on where it was.",
        allow_abbrev=False,
    )
    add_config_files_option(parser, required=True)
    parser.add_argument("--seeds", default="3", help="how many, or a list [1, 7] (3)")
    parser.add_argument("--out", default="transfer", help="folder of the report (transfer)")
    return parser
