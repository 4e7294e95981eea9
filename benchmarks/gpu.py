"""Every check and timing that needs a GPU, in one run of about six minutes.

    python benchmarks/gpu.py [--only machine,kernels,tests,steps,epoch,compiled] [--lengths 20 200]

- machine: throughput of a large matrix product and of a large copy;
- kernels: errors of the fused kernels of mamba_ssm and causal_conv1d and of ours, against float64;
- tests: tests that are marked ``gpu``;
- steps: milliseconds and peak memory of a training step at the released sizes, by kernels, precision,
  groups of similar length and CUDA graphs; ``first s`` is the first one, in which kernels are chosen;
- epoch: an epoch of the trainer at the size of Pantry, including reading its batches;
- compiled: a step whose blocks ``torch.compile`` has compiled.

The data are random. Parts that fail, or would begin after ``--seconds``, are named at the end, and
the exit code is 1. ``--cpu`` tries the script without a GPU, at a tiny size.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from recbole.data import data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import init_seed
from synthetic import model_settings, random_batch, random_dataset, random_folder, training_step

from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.integration.lookup import model_class
from recbole_mm.model.layers.backend import PACKAGES, fused_causal_conv1d, mamba_ssm_scan
from recbole_mm.model.layers.conv import causal_conv1d
from recbole_mm.model.layers.ssd import ssd
from recbole_mm.tools.precision import matmul_precision
from recbole_mm.training.cuda_graphs import GraphedLoss
from recbole_mm.training.trainer import MultiModalTrainer

# Triton chooses the kernels of mamba_ssm by trying them, for a minute or two: once for all parts
os.environ.setdefault("TRITON_CACHE_AUTOTUNING", "1")
ROOT = Path(__file__).parents[1]
USERS, ITEMS, EVENTS = 13101, 4899, 126962  # sizes of Pantry; the padding item is one of the items
WIDTH = 768  # width of a modality's features
REAL_SHARE = 1 / 3  # share of events among the positions of padded histories
SECONDS_OF_TESTS = 180
LONG = 100  # from this length on a batch has an eighth of the rows
ROWS = {"MMM4Rec": 1024, "MISSRec": 512, "UniSRec": 1024, "SASRecPlus": 128, "HSTU": 128}
TORCH = {"ssd_backend": "torch"}
FUSED = {"ssd_backend": "mamba_ssm"}
GRAPHS = {"cuda_graphs": True}
TF32 = {"matmul_precision": "high"}


class Bench(NamedTuple):
    """The device and the sizes of all measurements.

    Attributes:
        device: ``cuda`` or ``cpu``.
        lengths: lengths of the histories.
        steps: number of timed steps.
    """

    device: str
    lengths: list[int]
    steps: int

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def has_fused(self) -> bool:
        """Whether mamba_ssm and causal_conv1d can be used."""
        return self.on_gpu and all(find_spec(name) for name in PACKAGES)

    def now(self) -> float:
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds(self, work: Callable[[], object], repeats: int = 10) -> float:
        """Median over repeats, after an untimed one."""
        work()
        found = []
        for _ in range(repeats):
            start = self.now()
            work()
            found.append(self.now() - start)
        return median(found)


def machine(bench: Bench) -> None:
    n = 8192 if bench.on_gpu else 256
    a, b = torch.randn(2, n, n, device=bench.device)
    for name in ("float32", "tf32", "bfloat16"):
        x, y = (a.bfloat16(), b.bfloat16()) if name == "bfloat16" else (a, b)
        with matmul_precision("high" if name == "tf32" else "highest"):
            seconds = bench.seconds(lambda x=x, y=y: x @ y)
        print(f"matrix product, {name:9s} {2 * n**3 / seconds / 1e12:8.1f} TFLOP/s")
    source = torch.randn(16 * n * n, device=bench.device)
    copy = torch.empty_like(source)
    seconds = bench.seconds(lambda: copy.copy_(source))
    print(f"copy                      {2 * source.nbytes / seconds / 1e9:8.0f} GB/s")


def tests(bench: Bench) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    print("$", *command[1:], flush=True)
    subprocess.run(command, cwd=ROOT, check=bench.on_gpu, timeout=SECONDS_OF_TESTS)


class Row(NamedTuple):
    """A row of the table of training steps: a model, the length of its histories, and what differs
    from its defaults."""

    model: str
    length: int
    changes: dict[str, Any]
    compiled: bool = False

    def __str__(self) -> str:
        shown = [f"{key}={value}" for key, value in self.changes.items()]
        shown += ["compiled"] if self.compiled else []
        return f"{self.model:10s} {self.length:5d} {' '.join(shown):78s}"


def rows_of_steps(bench: Bench) -> list[Row]:
    first, *others = bench.lengths
    backends = [TORCH, FUSED] if bench.has_fused else [TORCH]
    variants = [{}, TF32, GRAPHS, GRAPHS | TF32] if bench.on_gpu else [{}]
    rows = [Row("MMM4Rec", first, backend | more) for backend in backends for more in variants]
    rows += [
        Row("MMM4Rec", first, TORCH | more)
        for more in (
            {"enable_amp": True},
            *([GRAPHS | {"enable_amp": True}] if bench.on_gpu else []),
            {"length_group_size": 2048},
            {"use_time": True},
            {"loss_positions": "all"},
            *([GRAPHS | TF32 | {"loss_positions": "all"}] if bench.on_gpu else []),
        )
    ]
    if bench.has_fused:  # the authors' function by the kernels that they use
        rows.append(Row("MMM4Rec", first, FUSED | {"released": True, "length_group_size": 0}))
    rows += [
        Row(model, first, more)
        for model in ("MISSRec", "UniSRec", "SASRecPlus", "HSTU")
        for more in ({}, TF32)
    ]
    if bench.on_gpu:
        rows.append(Row("UniSRec", first, GRAPHS | TF32))
    rows += [Row("MMM4Rec", length, backend) for length in others for backend in backends]
    return rows


def steps(bench: Bench) -> None:
    measure(bench, rows_of_steps(bench))


def compiled(bench: Bench) -> None:
    measure(bench, [Row("MMM4Rec", bench.lengths[0], TORCH, compiled=True)])


def measure(bench: Bench, rows: list[Row]) -> None:
    """Print a line for each row; the last failure is raised after all lines are printed."""
    print(f"{'model':10s} {'L':>5s} {'changes':78s} {'rows':>5s} first s  ms/step       MB")
    failed = None
    for row in rows:
        try:
            print(row, line_of(bench, row), flush=True)
        except Exception as error:  # noqa: BLE001  the other rows are worth having
            print(row, f"failed: {type(error).__name__}: {str(error).strip()[:200]}", flush=True)
            failed = error
    if failed:
        raise failed


def line_of(bench: Bench, row: Row) -> str:
    """Rows of a batch, seconds of the first step, milliseconds of the others, peak memory."""
    changes = {"MAX_ITEM_LIST_LENGTH": row.length, "use_gpu": bench.on_gpu, **row.changes}
    config = model_settings(row.model, **changes)
    n_rows = (ROWS[row.model] if row.length < LONG else ROWS[row.model] // 8) if bench.on_gpu else 4
    torch.manual_seed(0)
    modalities = ("text", "image") if row.model in ("MMM4Rec", "MISSRec", "UniSRec") else ()
    dataset = random_dataset(ITEMS, WIDTH if bench.on_gpu else 8, modalities)
    model = model_class(row.model)(config, dataset).to(bench.device).train()
    windows = config["loss_positions"] == "all"
    shape = n_rows, ITEMS, row.length, REAL_SHARE, windows
    batches = [random_batch(*shape) for _ in range(bench.steps + 1)]
    batches = [Interaction(batch).to(bench.device) for batch in batches]
    if row.compiled:
        compile_blocks(model)
    loss_of = GraphedLoss(model) if config["cuda_graphs"] and bench.on_gpu else None
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    start = bench.now()
    model.on_epoch_start(0)
    step = training_step(model, config, loss_of)
    step(batches[0])
    first, seconds = bench.now() - start, []
    for batch in batches[1:]:
        start = bench.now()
        step(batch)
        seconds.append(bench.now() - start)
    peak = torch.cuda.max_memory_allocated() / 2**20 if bench.on_gpu else float("nan")
    return f"{n_rows:5d} {first:7.2f} {1e3 * median(seconds):8.2f} {peak:8.0f}"


def compile_blocks(model) -> None:
    """Compile the layers, with every history at the full length, so that only one shape is
    compiled."""
    model.fixed_length = True
    for layer in (*model.encoder_layers, *(x for xs in model.cross_layers.values() for x in xs)):
        layer.compile()
        if hasattr(layer, "at_end"):
            layer.at_end = torch.compile(layer.at_end)


def epoch(bench: Bench) -> None:
    users, items = (USERS, ITEMS - 1) if bench.on_gpu else (50, 40)
    all_positions = TORCH | {"loss_positions": "all"}
    variants = [TORCH, TORCH | TF32 | GRAPHS, all_positions, all_positions | TF32 | GRAPHS]
    if bench.has_fused:
        variants[1:1] = [FUSED, FUSED | TF32, FUSED | TF32 | GRAPHS]
        variants.append(FUSED | {"released": True, "length_group_size": 0})
    print("MMM4Rec: seconds of an epoch, of only reading its batches, of the validation")
    with tempfile.TemporaryDirectory() as folder:
        width = WIDTH if bench.on_gpu else 8
        random_folder(Path(folder) / "random", users, items, EVENTS / USERS, width)
        for changes in variants:
            config = model_settings(
                "MMM4Rec",
                dataset="random",
                data_path=folder,
                modalities=["text", "image"],
                use_gpu=bench.on_gpu,
                show_progress=False,
                **changes,
            )
            init_seed(0, True)
            train, valid, _ = data_preparation(config, MultiModalDataset(config))
            model = model_class("MMM4Rec")(config, train._dataset).to(bench.device)
            trainer = MultiModalTrainer(config, model)
            trainer.eval_collector.data_collect(train)
            reading = bench.seconds(lambda data=train: list(data), 3)
            training = bench.seconds(lambda t=trainer, d=train: t._train_epoch(d, 0), 3)
            validation = bench.seconds(lambda t=trainer, d=valid: t._valid_epoch(d), 3)
            shown = " ".join(f"{key}={value}" for key, value in changes.items())
            print(
                f"{shown:60s} {len(train):3d} batches {training:6.3f} {reading:6.3f} "
                f"{validation:6.3f}",
                flush=True,
            )


def kernels(bench: Bench) -> None:
    """Largest errors as a share of the largest value of the exact result."""
    b, h, p, g, n = (8, 8, 64, 8, 64) if bench.on_gpu else (2, 2, 8, 1, 8)
    if not bench.has_fused:
        print(f"without {' and '.join(PACKAGES)}, or without a GPU: only torch's kernels")

    def draw(*shape):
        return torch.randn(*shape, device=bench.device)

    for length in bench.lengths:
        torch.manual_seed(length)
        scan = [draw(b, length, h, p), draw(b, length, h).sigmoid(), -draw(h).exp()]
        scan += [draw(b, length, g, n), draw(b, length, g, n), draw(b, length, h)]
        conv = [draw(b, length, h * p), draw(h * p, 4), draw(h * p), draw(h * p)]
        for dtype in (torch.float32, torch.bfloat16):
            # step sizes and decays stay in float32, as in training
            kept = [x if place in (1, 2) else x.to(dtype) for place, x in enumerate(scan)]
            compare(bench, "scan", ssd, mamba_ssm_scan, kept)
            given = [x.to(dtype) for x in conv]
            compare(bench, "convolution", causal_conv1d, fused_causal_conv1d, given)


def compare(bench: Bench, name: str, ours, fused, given: list[torch.Tensor]) -> None:
    exact = outputs_and_gradients(ours, [x.double() for x in given])
    functions = {"torch": ours, "fused": fused} if bench.has_fused else {"torch": ours}
    for kernel, function in functions.items():
        found = outputs_and_gradients(function, given)
        errors = [
            ((y.double() - e).abs().max() / e.abs().max()).item()
            for y, e in zip(found, exact, strict=True)
        ]
        seconds = bench.seconds(lambda f=function: outputs_and_gradients(f, given))
        print(
            f"{name:12s} {kernel:6s} {str(given[0].dtype)[6:]:9s} L={given[0].shape[1]:<5d} output "
            f"{errors[0]:.1e}  gradients {max(errors[1:]):.1e}  {1e3 * seconds:7.2f} ms",
            flush=True,
        )


def outputs_and_gradients(function, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y = function(*inputs)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype, device=y.device).view_as(y)
    return [y.detach(), *torch.autograd.grad((y * weight).sum(), inputs)]


PARTS = {
    "machine": machine,
    "kernels": kernels,
    "tests": tests,
    "steps": steps,
    "epoch": epoch,
    "compiled": compiled,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--seconds", type=float, default=300, help="no part begins after this time")
    parser.add_argument("--cpu", action="store_true", help="try the script without a GPU")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"--only: {unknown[0]!r} is not one of {', '.join(PARTS)}")
    if not options.cpu and not torch.cuda.is_available():
        parser.error("no CUDA device found; --cpu tries the script without one")
    bench = Bench("cpu" if options.cpu else "cuda", options.lengths, options.steps)
    gpu = torch.cuda.get_device_name() if bench.on_gpu else "no GPU"
    print(f"{gpu}, torch {torch.__version__}", flush=True)
    begin, missing = time.perf_counter(), []
    for name in wanted:
        start = time.perf_counter()
        if start - begin > options.seconds:
            missing.append(f"{name}: not begun within {options.seconds:.0f} s")
            continue
        print(f"\n== {name}", flush=True)
        try:
            PARTS[name](bench)
        except Exception as error:  # noqa: BLE001  the other parts are worth having
            traceback.print_exc()
            missing.append(f"{name}: {type(error).__name__}")
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
    print("\n" + ("\n".join(missing) or "all parts ran"))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
