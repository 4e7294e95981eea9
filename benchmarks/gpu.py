"""Every check and timing that needs a GPU, in one run.

    python benchmarks/gpu.py [--steps 20] [--lengths 20 200 1000]

The tests that are marked ``gpu``; errors of the fused kernels against the torch ones, forward and
backward; milliseconds and peak memory of a training step of our models at the released sizes for
both backends; and the demo, start to end. ``--cpu`` runs it without a GPU and without the fused
kernels, to try the script itself.
"""

import argparse
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from synthetic import (
    alternating_milliseconds,
    model_settings,
    random_batch,
    random_dataset,
    training_step,
)

from recbole_mm.model.layers.backend import PACKAGES, fused_causal_conv1d, mamba_ssm_scan
from recbole_mm.model.layers.conv import causal_conv1d
from recbole_mm.model.layers.ssd import ssd
from recbole_mm.model.sequential_recommender.missrec import MISSRec
from recbole_mm.model.sequential_recommender.mmm4rec import MMM4Rec

ROOT = Path(__file__).parents[1]
ITEMS, WIDTH = 4899, 768


def run(*command: str) -> None:
    """Run a command in the checkout; its output is shown."""
    print("$", *command, flush=True)
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)


def kernel_errors(length: int) -> None:
    """Largest errors of the fused kernels, relative to the largest value of the torch ones."""

    def draw(*shape):
        return torch.randn(*shape, device="cuda")

    b, h, p, g, n = 8, 8, 64, 8, 64
    scan = [
        draw(b, length, h, p),
        torch.rand(b, length, h, device="cuda"),
        -torch.rand(h, device="cuda"),
        draw(b, length, g, n),
        draw(b, length, g, n),
        draw(b, length, h),
    ]
    conv = [draw(b, length, 512), draw(512, 4), draw(512), draw(512)]
    pairs = (
        ("scan", mamba_ssm_scan, ssd, scan),
        ("convolution", fused_causal_conv1d, causal_conv1d, conv),
    )
    for name, fused, reference, inputs in pairs:
        inputs = [x.requires_grad_() for x in inputs]
        outputs = []
        for function in (fused, reference):
            y = function(*inputs)
            outputs.append([y, *torch.autograd.grad(y.square().sum(), inputs)])
        errors = [
            ((ours - theirs).abs().max() / theirs.abs().max()).item()
            for ours, theirs in zip(*outputs, strict=True)
        ]
        print(f"{name:12s} L={length:<5d} output {errors[0]:.1e}  gradients {max(errors[1:]):.1e}")


def step_time(model, settings, batches: list[dict]) -> tuple[float, float]:
    """Median milliseconds of a training step, and peak GPU memory in MB."""
    device = settings["device"]
    model.to(device).train()
    step = training_step(model, settings)
    on_gpu = device.type == "cuda"

    def clock() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    on_device = [{name: value.to(device) for name, value in batch.items()} for batch in batches]
    (milliseconds,) = alternating_milliseconds([step], on_device, clock)
    return milliseconds, torch.cuda.max_memory_allocated() / 2**20 if on_gpu else float("nan")


def step_times(lengths: list[int], steps: int, on_gpu: bool, backends: list[str]) -> None:
    cases = [(MMM4Rec, 1024, {"ssd_backend": backend}) for backend in backends]
    cases.append((MISSRec, 512, {}))
    print(f"{'model':8s} {'options':44s} {'L':>5s} {'ms/step':>8s} {'MB':>8s}")
    for length in lengths:
        torch.manual_seed(0)
        batches = [random_batch(1024, ITEMS, length, 1 / 3) for _ in range(steps + 1)]
        for model_class, rows, options in cases:
            given = [{name: value[:rows] for name, value in batch.items()} for batch in batches]
            for group in (0, 1024):
                changes = {**options, "length_group_size": group, "MAX_ITEM_LIST_LENGTH": length}
                settings = model_settings(model_class.__name__, **changes, use_gpu=on_gpu)
                model = model_class(settings, random_dataset(ITEMS, WIDTH))
                time_ms, peak = step_time(model, settings, given)
                shown = " ".join(f"{key}={changes[key]}" for key in (*options, "length_group_size"))
                print(
                    f"{model_class.__name__:8s} {shown:44s} {length:5d} {time_ms:8.1f} {peak:8.0f}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 200, 1000])
    parser.add_argument("--cpu", action="store_true", help="try the script without a GPU")
    options = parser.parse_args()
    on_gpu = not options.cpu
    if on_gpu and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is to be seen; --cpu tries the script without one")
    backends = ["torch"]
    if on_gpu:
        print(torch.cuda.get_device_name(), "torch", torch.__version__)
        run("-m", "pytest", "-q", "-m", "gpu")
        if all(find_spec(name) for name in PACKAGES):
            backends.append("mamba_ssm")
            for length in options.lengths:
                kernel_errors(length)
        else:
            print(f"without {' and '.join(PACKAGES)}: only the torch backend")
    step_times(options.lengths, options.steps, on_gpu, backends)
    run("run_recbole_mm.py", "--model=MMM4Rec", "--dataset=demo", f"--use_gpu={on_gpu}")


if __name__ == "__main__":
    main()
