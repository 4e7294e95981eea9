"""The outcome of a finished stage, and the ranks of its test targets next to its other files."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recbole_mm.config.load import RunConfig
from recbole_mm.reporting.added_scores import evaluate_added
from recbole_mm.reporting.environment import environment
from recbole_mm.reporting.ranks import MASKED, TREATMENTS, evaluate_ranks, write_table
from recbole_mm.run.result import Result
from recbole_mm.run.run import Run
from recbole_mm.run.stages import Stage
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.files import set_aside
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.tools.path_patterns import pattern_of
from recbole_mm.tools.records import read_record, write_record
from recbole_mm.transfer_report.settings import Condition

RANKS, RECORD = ".ranks.parquet", ".ranks.json"
WITH_OTHERS = ".with-neighbors"  # precedes these, for scores with others added


class Outcome(NamedTuple):
    """One start or baseline on one target with one seed.

    Attributes:
        target: name of the target.
        start: name of the start or the baseline.
        condition: part of the target that was used for training.
        seed: random seed.
        config: configuration of its stage.
        result: result of its stage; ``None`` for a baseline, which needs no training, and for
            scores with others added.
        ranks: ``user``, ``item``, ``rank``, ``seen`` (treatment of the items of the history).
        environment: software and hardware that computed the ranks.
    """

    target: str
    start: str
    condition: Condition
    seed: int
    config: dict
    result: Result | None
    ranks: pl.DataFrame
    environment: dict[str, str]


class Tested:
    """The model of a stage, which is only opened if its ranks are not stored yet.

    Args:
        stage: finished stage.
        trained: whether it has a checkpoint; without one the model is complete when it is created.
    """

    def __init__(self, stage: Stage, trained: bool = True):
        self.stage, self.trained = stage, trained

    @cached_property
    def _run(self) -> Run:
        run = Run(self.stage.config)
        if self.trained:
            run.load(self.stage.path(".pth"))
        return run

    @cached_property
    def _checkpoint(self) -> str | None:
        """SHA-256 of the checkpoint, if there is one."""
        return sha256_of_file(self.stage.path(".pth")) if self.trained else None

    def ranks(self, added: Sequence[RunConfig] = ()) -> tuple[pl.DataFrame, dict[str, str]]:
        """The ranks of the test targets, computed once and stored, and their environment.

        Args:
            added: configurations of models without training, whose scores are added.
        """
        suffix = WITH_OTHERS if added else ""
        path, record_path = self.stage.path(suffix + RANKS), self.stage.path(suffix + RECORD)
        kept = _kept_ranks(path, record_path, self._checkpoint)
        if kept is not None:
            return kept
        if added:
            evaluations = evaluate_added([self._run, *map(Run, added)])
        else:
            evaluations = {seen: evaluate_ranks(self._run, seen == MASKED) for seen in TREATMENTS}
        ranks = pl.concat(
            evaluation.ranks.select("user", "item", "rank").with_columns(seen=pl.lit(seen))
            for seen, evaluation in evaluations.items()
        )
        made_with = environment(self.stage.config["device"])
        write_table(ranks, path)
        hashes = {"checkpoint": self._checkpoint, "ranks": sha256_of_file(path)}
        write_record(record_path, {"environment": made_with, **hashes})
        return ranks, made_with


def _kept_ranks(
    path: Path, record_path: Path, checkpoint: str | None
) -> tuple[pl.DataFrame, dict[str, str]] | None:
    """The stored ranks with their environment, if any; damaged files are set aside.

    Args:
        path: file of the ranks.
        record_path: file of their record.
        checkpoint: SHA-256 of the checkpoint that must have been ranked; ``None`` if there is none.
    """
    try:
        record = read_record(record_path)
        if record is None or record["checkpoint"] != checkpoint:
            return None
        if sha256_of_file(path) != record["ranks"]:
            raise UserError(f"{path} has changed since it was written")
        return pl.read_parquet(pattern_of(path)), record["environment"]
    except (OSError, UserError, KeyError, pl.exceptions.PolarsError) as error:
        set_aside(record_path, error)
        return None
