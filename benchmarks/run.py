"""A table of how fast our models are, and how far from what the machine can do.

    python benchmarks/run.py [--models MMM4Rec,MISSRec] [--repeats 5] [--threads 2]
    python benchmarks/run.py --options enable_amp=True --options length_group_size=0,learner=sgd
    python benchmarks/run.py --save speed.json      # later: --check speed.json

Random data of the released sizes: 4,898 items, two modalities (SASRecPlus, HSTU: IDs only), a softmax over
all items, float32, geometric lengths of histories. A training step is the trainer's: loss, gradients,
optimizer, average of the weights. An evaluation scores all items for a batch.

floor: the float32 matrix products of the step at the rate of a large product on this machine, measured
next to it, or its minimum memory traffic at the rate of a large copy, whichever takes longer. Each
``--options`` is a variant, which takes turns with the defaults in the same process; ``ratio`` is its
time over theirs. Times of two runs cannot be compared; ratios can. FLOPs, bytes and memory are those of
the first batch; memory is what the step holds in addition to the model and its optimizer's state.

``--check`` exits with 1 if time over floor, ratio, FLOPs or memory of a row exceed those of the file by more
than ``--tolerance``.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import yaml
from costs import Costs, MachineRates, count_costs, machine_rates, peak_bytes
from synthetic import model_settings, random_batch, random_dataset, training_step

from recbole_mm.integration.lookup import model_class
from recbole_mm.tools.files import write_json
from recbole_mm.tools.memory import keep_freed_memory

N_ITEMS = 4899
TASKS = ("training", "evaluation")
COMPARED = ("time_over_floor", "ratio", "gflop", "peak_mb")


class Sizes(NamedTuple):
    """A model as it was released.

    Attributes:
        n_items: number of items, including the padding.
        width: width of the features.
        real_share: events per position of the padded histories.
        settings: settings that differ from the defaults of the model.
        modalities: modalities of the items.
    """

    n_items: int
    width: int
    real_share: float
    settings: dict[str, Any]
    modalities: tuple[str, ...] = ("text", "image")


RELEASED = {
    "MMM4Rec": Sizes(4899, 768, 1 / 3, {"use_time": True}),
    "MISSRec": Sizes(4899, 512, 0.14, {"reg_counts_padding": True}),
    "UniSRec": Sizes(4899, 768, 0.14, {}),
    "SASRecPlus": Sizes(4899, 0, 0.14, {}, ()),
    "HSTU": Sizes(4899, 0, 0.14, {}, ()),
}
TINY = {
    "hidden_size": 8,
    "inner_size": 8,
    "MAX_ITEM_LIST_LENGTH": 5,
    "train_batch_size": 4,
    "eval_batch_size": 4,
    "head_dim": 8,
    "d_state": 4,
    "n_groups": 1,
}


def sizes_of(name: str, tiny: bool) -> Sizes:
    released = RELEASED[name]
    if not tiny:
        return released
    known = model_settings(name)
    settings = released.settings | {key: value for key, value in TINY.items() if key in known}
    return Sizes(40, 6, 0.6, settings, released.modalities)


class Variant(NamedTuple):
    """A step of one model with some settings.

    Attributes:
        options: options as they are shown; empty for the defaults.
        step: step on a batch.
        costs: costs of the first batch.
        peak: peak memory in bytes, see :func:`costs.peak_bytes`.
    """

    options: str
    step: Callable[[dict], Any]
    costs: Costs
    peak: int


class Round(NamedTuple):
    """Seconds of each variant, and the rates of the machine at that time."""

    seconds: list[float]
    rates: MachineRates


def parse_options(text: str) -> dict[str, Any]:
    """``KEY=VALUE,KEY=VALUE`` with values in yaml."""
    try:
        pairs = [part.split("=", 1) for part in text.split(",") if part]
        return {key: yaml.safe_load(value) for key, value in pairs}
    except (ValueError, yaml.YAMLError):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE[,KEY=VALUE...]") from None


def measure(name: str, task: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of the table for one model and task: defaults first, then the variants."""
    torch.manual_seed(0)
    sizes = sizes_of(name, arguments.tiny)
    config = model_settings(name, **sizes.settings)
    rows = config["train_batch_size" if task == "training" else "eval_batch_size"]
    windows = task == "training" and config["loss_positions"] == "all"
    shape = rows, sizes.n_items, config["MAX_ITEM_LIST_LENGTH"], sizes.real_share, windows
    batches = [random_batch(*shape) for _ in range(arguments.warmup + arguments.repeats)]
    dataset = random_dataset(sizes.n_items, sizes.width, sizes.modalities)
    variants = [
        make_variant(name, task, dataset, sizes.settings, options, batches[0])
        for options in ({}, *arguments.options)
    ]
    rounds = [time_round(variants, batch, arguments) for batch in batches][arguments.warmup :]
    return [row(name, task, rows, index, variants, rounds) for index in range(len(variants))]


def make_variant(
    name: str, task: str, dataset, settings: dict, options: dict, batch: dict
) -> Variant:
    """A model with its step."""
    training = task == "training"

    def build(**changes):
        torch.manual_seed(0)
        config = model_settings(name, **{**settings, **options, **changes})
        model = model_class(name)(config, dataset).train(training)
        if training:
            model.on_epoch_start(0)
            return model, training_step(model, config)
        return model, torch.no_grad()(model.full_sort_predict)

    model, step = build()
    step(batch)  # moments of the optimizer, items of an evaluation
    shown = ", ".join(f"{key}={value}" for key, value in options.items())
    return Variant(
        shown, step, count_costs(step, batch, model, training), peak_bytes(step, batch, model)
    )


def time_round(variants: list[Variant], batch: dict, arguments: argparse.Namespace) -> Round:
    clock = time.process_time if arguments.cpu else time.perf_counter
    rates = machine_rates(clock, 64 if arguments.tiny else 2048)
    seconds = []
    for variant in variants:
        start = clock()
        variant.step(batch)
        seconds.append(clock() - start)
    return Round(seconds, rates)


def row(
    name: str, task: str, rows: int, index: int, variants: list[Variant], rounds: list[Round]
) -> dict[str, Any]:
    """The row of a variant: medians over the rounds, of times and of ratios."""
    variant = variants[index]
    seconds = median(each.seconds[index] for each in rounds)
    floors = [_floors(variant.costs, each.rates) for each in rounds]
    over = [each.seconds[index] / max(floor) for each, floor in zip(rounds, floors, strict=True)]
    return {
        "model": name,
        "task": task,
        "options": variant.options,
        "ms": 1e3 * seconds,
        "examples_per_s": rows / max(seconds, 1e-9),
        "peak_mb": variant.peak / 1e6,
        "gflop": variant.costs.flops / 1e9,
        "gb_moved": variant.costs.moved / 1e9,
        "gflop_per_s": median(each.rates.products for each in rounds) / 1e9,
        "gb_per_s": median(each.rates.copies for each in rounds) / 1e9,
        "floor_ms": 1e3 * median(max(floor) for floor in floors),
        "time_over_floor": median(over),
        "ratio": median(each.seconds[index] / max(each.seconds[0], 1e-9) for each in rounds),
    }


def _floors(costs: Costs, rates: MachineRates) -> tuple[float, float]:
    return costs.flops / rates.products, costs.moved / rates.copies


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    columns = {
        "model": "{model}",
        "step": "{task}",
        "options": "{options}",
        "ms": "{ms:.0f}",
        "examples/s": "{examples_per_s:,.0f}",
        "peak MB": "{peak_mb:.0f}",
        "GFLOP": "{gflop:.1f}",
        "GB moved": "{gb_moved:.2f}",
        "floor ms": "{floor_ms:.0f}",
        "time/floor": "{time_over_floor:.2f}",
        "ratio": "{ratio:.2f}",
    }
    cells = [[text.format(**each) for text in columns.values()] for each in rows]
    lines = [list(columns), ["---"] * 3 + ["--:"] * (len(columns) - 3), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def worse_than(rows: list[dict], stored: list[dict], tolerance: float) -> list[str]:
    """The figures that exceed the stored ones by more than the tolerance, one line each.

    Raises:
        ValueError: no row is in both.
    """
    before = {(each["model"], each["task"], each["options"]): each for each in stored}
    found, common = [], 0
    for each in rows:
        old = before.get((each["model"], each["task"], each["options"]))
        if old is None:
            continue
        common += 1
        found += [
            f"{each['model']} {each['task']} {each['options']}: {key} {each[key]:.2f}, "
            f"stored {old[key]:.2f}"
            for key in COMPARED
            if each[key] > old[key] * (1 + tolerance)
        ]
    if not common:
        raise ValueError("none of the measured rows is in the file: measure the same models")
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(RELEASED), help="names, comma-separated")
    parser.add_argument("--tasks", default=",".join(TASKS), help="training, evaluation or both")
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds")
    parser.add_argument("--warmup", type=int, default=2, help="untimed rounds before them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--options", type=parse_options, action="append", default=[], metavar="KEY=VALUE[,...]"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="measure CPU time, with --threads 1 on a busy machine"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--save", type=Path, metavar="FILE.json")
    parser.add_argument("--check", type=Path, metavar="FILE.json")
    parser.add_argument("--tolerance", type=float, default=0.25, help="share, default 0.25")
    arguments = parser.parse_args(argv)
    for key, known in (("models", tuple(RELEASED)), ("tasks", TASKS)):
        names = getattr(arguments, key).split(",")
        if unknown := [each for each in names if each not in known]:
            parser.error(f"--{key}: {unknown[0]!r} is not one of {', '.join(known)}")
        setattr(arguments, key, names)
    return arguments


def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    stored = json.loads(arguments.check.read_text())["rows"] if arguments.check else None
    rows = [
        each
        for name in arguments.models
        for task in arguments.tasks
        for each in measure(name, task, arguments)
    ]
    products, copies = (median(each[key] for each in rows) for key in ("gflop_per_s", "gb_per_s"))
    print(
        f"torch {torch.__version__}, {arguments.threads} threads, {products:.0f} GFLOP/s of float32 "
        f"matrix product, {copies:.1f} GB/s of copies\n\n{table(rows)}"
    )
    if arguments.save:
        write_json(arguments.save, {"rows": rows})
    if stored is None:
        return 0
    try:
        found = worse_than(rows, stored, arguments.tolerance)
    except ValueError as error:
        print(f"{arguments.check}: {error}", file=sys.stderr)
        return 2
    print("\n" + ("\n".join(found) or f"nothing is worse than in {arguments.check}"))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
