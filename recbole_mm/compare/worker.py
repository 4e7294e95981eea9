r"""One run of a comparison in a process of its own: ``python -m recbole_mm.compare.worker FOLDER``.

A run that crashes, or that the system kills for lack of memory, does not end the others.
"""

import json
import os
import platform
import sys
import traceback
from logging import getLogger
from pathlib import Path

import polars as pl
import torch

from recbole_mm.compare.knockout import ALL, knocked_out, knockouts
from recbole_mm.compare.ranks import MASKED, TREATMENTS, evaluate_ranks, write_table
from recbole_mm.config.plain import config_from_plain
from recbole_mm.run.identity import package_version, source_hash
from recbole_mm.run.logs import start_logging
from recbole_mm.run.run import Run
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.files import write_json

PACKAGES = ("recbole_mm", "recbole", "torch", "numpy", "pandas", "polars", "scipy", "scikit-learn")
PLAN, RESULT, RANKS = "run.json", "result.json", "ranks.parquet"
BEST_EPOCH, LATEST_EPOCH = "best.pth", "latest.pth"


def run_one(folder: Path) -> None:
    """Train and test according to ``run.json`` in the folder; ``result.json`` is written last.

    An interrupted run of our models resumes with the epoch it was in; RecBole's models start from
    scratch. ``ranks.parquet`` has one row per test target, set of features (column ``features``:
    ``all``, or one of :func:`~recbole_mm.compare.knockout.knockouts`) and treatment of the items of
    the history (column ``seen``, one of :data:`~recbole_mm.compare.ranks.TREATMENTS`).
    """
    plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    config = config_from_plain(plan["config"])
    start_logging(config)
    run = Run(config)
    run.keep_progress(folder / BEST_EPOCH, folder / LATEST_EPOCH)
    run.train()
    result = run.test()
    ranks, metrics = rank_all(run)
    ranks = ranks.with_columns(
        label=pl.lit(plan["label"]), model=pl.lit(config["model"]), seed=pl.lit(config["seed"])
    )
    write_table(ranks, folder / RANKS)
    record = {
        **result.to_dict(),
        "environment": environment(config["device"]),
        "n_items": run.splits.test.dataset.item_num - 1,
        "metrics": metrics,
    }
    write_json(folder / RESULT, record)
    (folder / LATEST_EPOCH).unlink(missing_ok=True)


def environment(device: torch.device) -> dict[str, str]:
    """Versions, code and machine, by name."""
    used = {"Python": platform.python_version(), **{p: package_version(p) for p in PACKAGES}}
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    used["code of recbole_mm"] = source_hash()[:12]
    return used | {"machine": platform.platform(), "cores": str(os.cpu_count()), "GPU": gpu}


def rank_all(run: Run) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Ranks with all features and with every knock-out, seen items candidates and masked.

    A knock-out has no lists, and is left out if the GPU has no memory for other features.

    Returns:
        the ranks; RecBole's metrics with all features, by treatment of the seen items.
    """
    trainer = run.trainer
    evaluations = {seen: evaluate_ranks(run, seen == MASKED) for seen in TREATMENTS}
    tables = [
        evaluation.ranks.with_columns(features=pl.lit(ALL), seen=pl.lit(seen))
        for seen, evaluation in evaluations.items()
    ]
    model = trainer.model
    for name in knockouts(model):
        try:
            trainer.model = knocked_out(model, name)
            for seen in TREATMENTS:
                ranks = evaluate_ranks(run, seen == MASKED).ranks
                no_list = pl.lit(None, ranks.schema["recommended"])
                columns = {"recommended": no_list, "features": pl.lit(name), "seen": pl.lit(seen)}
                tables.append(ranks.with_columns(**columns))
        except torch.OutOfMemoryError as error:
            getLogger().warning(f"features '{name}' are left out: {error}")
    trainer.model = model
    return pl.concat(tables), {seen: e.metrics for seen, e in evaluations.items()}


def main() -> None:
    """Run the folder that the command line names; the reason of a failure is the last line."""
    try:
        run_one(Path(sys.argv[1]))
    except (UserError, RunFailed) as error:
        traceback.print_exc()
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
