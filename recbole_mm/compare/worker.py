r"""One run of a comparison in its own process: ``python -m recbole_mm.compare.worker FOLDER``.

A run that crashes, or that the system kills for lack of memory, does not stop the others.
"""

import shutil
import sys
import traceback
from logging import getLogger
from pathlib import Path

import polars as pl
import torch

from recbole_mm.compare.ensembles import open_members
from recbole_mm.compare.knockout import ALL, knocked_out, knockouts
from recbole_mm.config.plain import config_from_plain
from recbole_mm.reporting.added_scores import evaluate_added
from recbole_mm.reporting.environment import environment
from recbole_mm.reporting.ranks import (
    MASKED,
    TREATMENTS,
    Evaluation,
    evaluate_ranks,
    write_table,
)
from recbole_mm.run.logs import start_logging
from recbole_mm.run.run import Run
from recbole_mm.tools.children import end_with_parent
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.files import write_json
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.locks import locked
from recbole_mm.tools.records import read_record, write_record

PLAN, RESULT, RANKS = "run.json", "result.json", "ranks.parquet"
BEST_EPOCH, LATEST_EPOCH = "best.pth", "latest.pth"
EPOCHS = "epochs.json"
"""File with the validated epochs of an unfinished run."""
LOCK, OUTPUT = "lock", "output.txt"
"""Files of a worker: its lock while it runs, and its output."""

COSTS = ("epochs", "seconds", "n_parameters")
"""Training costs in ``result.json``; those of an ensemble are the sums over its members."""


def run_one(folder: Path) -> None:
    """Train and test according to ``run.json`` in the folder; ``result.json`` is written last.

    An interrupted run of our models resumes with the epoch it was in; RecBole's models start from
    scratch. ``ranks.parquet`` has one row per test target, knock-out (column ``features``:
    ``all``, or one of :func:`~recbole_mm.compare.knockout.knockouts`) and treatment of the items of
    the history (column ``seen``, one of :data:`~recbole_mm.reporting.ranks.TREATMENTS`).
    """
    plan = _read(folder / PLAN)
    config = config_from_plain(plan["config"])
    start_logging(config)
    if "members" in plan:
        _test_ensemble(folder, plan)
        return
    run = Run(config)
    run.keep_progress(folder / BEST_EPOCH, folder / LATEST_EPOCH)
    run.train(on_validation=lambda *_: write_json(folder / EPOCHS, run.trainer.history))
    result = run.test()
    ranks, metrics = rank_all(run)
    _write(folder, plan, ranks, metrics, run, result.to_dict())
    for name in (LATEST_EPOCH, EPOCHS):
        (folder / name).unlink(missing_ok=True)


def _test_ensemble(folder: Path, plan: dict) -> None:
    """Test the ensemble of finished runs, ``members`` of the plan."""
    members = [Path(member) for member in plan["members"]]
    results = [_read(member / RESULT) for member in members]
    runs = open_members(members, BEST_EPOCH, PLAN)
    evaluations = evaluate_added(runs)
    ranks = pl.concat(table_of(e, seen) for seen, e in evaluations.items())
    metrics = {seen: e.metrics for seen, e in evaluations.items()}
    costs = {key: sum(result[key] for result in results) for key in COSTS}
    _write(folder, plan, ranks, metrics, runs[0], {**costs, "history": [], "best_epoch": None})


def _write(
    folder: Path, plan: dict, ranks: pl.DataFrame, metrics: dict, run: Run, values: dict
) -> None:
    """Write the files of a finished run; ``values`` are further fields of its result."""
    model, seed = plan["config"]["model"], plan["config"]["seed"]
    ranks = ranks.with_columns(label=pl.lit(plan["label"]), model=pl.lit(model), seed=pl.lit(seed))
    write_table(ranks, folder / RANKS)
    record = {
        **values,
        "environment": environment(run.config["device"]),
        "n_items": run.splits.test.dataset.item_num - 1,
        "metrics": metrics,
        RANKS: sha256_of_file(folder / RANKS),
    }
    write_record(folder / RESULT, record)


def _read(path: Path) -> dict:
    record = read_record(path)
    if record is None:
        raise UserError(f"{path} does not exist")
    return record


def table_of(evaluation: Evaluation, seen: str, features: str = ALL) -> pl.DataFrame:
    """The ranks of an evaluation as rows of ``ranks.parquet``."""
    return evaluation.ranks.with_columns(features=pl.lit(features), seen=pl.lit(seen))


def rank_all(run: Run) -> tuple[pl.DataFrame, dict[str, dict[str, float]]]:
    """Ranks with all features and with every knock-out, with seen items as candidates and masked.

    A knock-out has no lists, and is skipped if the GPU lacks the memory for the changed features.

    Returns:
        the ranks; RecBole's metrics with all features, by treatment of the seen items.
    """
    trainer = run.trainer
    evaluations = {seen: evaluate_ranks(run, seen == MASKED) for seen in TREATMENTS}
    tables = [table_of(evaluation, seen) for seen, evaluation in evaluations.items()]
    model = trainer.model
    for name in knockouts(model):
        try:
            trainer.model = knocked_out(model, name)
            for seen in TREATMENTS:
                ranks = table_of(evaluate_ranks(run, seen == MASKED), seen, name)
                no_list = pl.lit(None, ranks.schema["recommended"])
                tables.append(ranks.with_columns(recommended=no_list))
        except torch.OutOfMemoryError as error:
            getLogger().warning(f"knock-out '{name}' is skipped: {error}")
    trainer.model = model
    return pl.concat(tables), {seen: e.metrics for seen, e in evaluations.items()}


def clear(folder: Path) -> None:
    """Remove the files of an earlier attempt, except the plan, the epochs to resume from, damaged
    files that were set aside, and the lock and output of this process."""
    kept = {PLAN, LOCK, OUTPUT}
    if (folder / LATEST_EPOCH).is_file():
        kept |= {BEST_EPOCH, LATEST_EPOCH, EPOCHS}
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in kept and path.suffix != ".damaged":
            path.unlink()


def main() -> None:
    """Execute the run in the folder that the command line names; the last line of the output is the
    reason for a failure."""
    end_with_parent()
    folder = Path(sys.argv[1])
    try:
        with locked(folder / LOCK, f"{folder}: another worker is running it"):
            clear(folder)
            run_one(folder)
    except (OSError, UserError, RunFailed) as error:
        traceback.print_exc()
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
