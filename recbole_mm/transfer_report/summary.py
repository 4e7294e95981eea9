"""The numbers of a report, from the finished stages."""

from typing import NamedTuple

import polars as pl

from recbole_mm.reporting.figures import Curve
from recbole_mm.reporting.ranks import CANDIDATES, MASKED
from recbole_mm.reporting.statistics import (
    Comparison,
    Interval,
    compare,
    deviation,
    difference_intervals,
    intervals,
    seed_values,
    user_table,
)
from recbole_mm.run.result import Result, still_rises
from recbole_mm.transfer_report.budget import Description
from recbole_mm.transfer_report.convergence import SHARES, Reached, reached
from recbole_mm.transfer_report.outcomes import Outcome
from recbole_mm.transfer_report.settings import ALL, Condition
from recbole_mm.transfer_report.study import Study
from recbole_mm.transfer_report.variants import (
    NOT_TRAINED,
    SCRATCH,
    TRAINED,
    WITH_NEIGHBORS,
    without_id_setting,
)

UNTRAINED_ROWS = (*NOT_TRAINED, *WITH_NEIGHBORS.values())
"""Rows that are the same for all sizes of a target."""


class Row(NamedTuple):
    """One start, or baseline, on a target under a condition.

    Attributes:
        start: name of the start or baseline.
        values: metric of the tests, one value per seed.
        interval: interval over users.
        difference: difference from scratch, with the interval of
            :mod:`~recbole_mm.reporting.statistics`; ``None`` for scratch.
        comparison: difference with its tests, for a trained start; Holm's correction is for the
            starts on the target under the condition.
        valid: best validation score of each seed.
        reached: times to scratch's best validation score; empty without training.
        best_epochs: best epoch of each seed, see :class:`~recbole_mm.run.result.Result`; empty
            without training.
    """

    start: str
    values: list[float]
    interval: Interval
    difference: Interval | None
    comparison: Comparison | None
    valid: list[float]
    reached: list[Reached]
    best_epochs: list[int | None]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    @property
    def deviation(self) -> float | None:
        return deviation(self.values)


class Block(NamedTuple):
    """One target under one condition.

    Attributes:
        target: name of the target.
        condition: part of it that was used for training.
        description: description of its data.
        rows: starts, then baselines.
        curves: trained start -> per seed, the validation score by optimizer steps.
        levels: start without training -> validation score, the mean over seeds.
        unfinished: starts and seeds whose best epoch is the last allowed one.
        valid_metric: metric that early stopping watches.
        users, targets: numbers of test users and test targets.
    """

    target: str
    condition: Condition
    description: Description
    rows: list[Row]
    curves: dict[str, list[Curve]]
    levels: dict[str, float]
    unfinished: list[tuple[str, int]]
    valid_metric: str
    users: int
    targets: int

    def row(self, start: str) -> Row | None:
        """The row of a start, if there is one."""
        return next((row for row in self.rows if row.start == start), None)


def summarize(study: Study) -> list[Block]:
    """The numbers of every target under every condition."""
    settings = study.settings
    seen = MASKED if settings.mask_seen else CANDIDATES
    blocks = []
    for (target, condition), description in study.descriptions.items():
        outcomes = _outcomes_of(study.outcomes, target, condition)
        ranks = _ranks(outcomes, seen)
        if condition.held_out_items:
            ranks = ranks.filter(pl.col("item").is_in(description.held_out))
        if len(ranks):
            blocks.append(_block(target, condition, description, outcomes, ranks, settings.metric))
    return blocks


def _outcomes_of(outcomes: list[Outcome], target: str, condition: Condition) -> list[Outcome]:
    """The outcomes on a target under a condition; those without training are the same for all
    sizes."""
    names = (target, without_id_setting(target))
    with_all = condition if condition.held_out_items else ALL
    return [
        outcome
        for outcome in outcomes
        if outcome.target in names
        and outcome.condition == (with_all if outcome.start in UNTRAINED_ROWS else condition)
    ]


def _ranks(outcomes: list[Outcome], seen: str) -> pl.DataFrame:
    return pl.concat(
        outcome.ranks.filter(seen=seen).with_columns(
            label=pl.lit(outcome.start), seed=pl.lit(outcome.seed)
        )
        for outcome in outcomes
    )


def _block(
    target: str,
    condition: Condition,
    description: Description,
    outcomes: list[Outcome],
    ranks: pl.DataFrame,
    metric: str,
) -> Block:
    results: dict[str, dict[int, Result]] = {}
    for outcome in outcomes:
        if outcome.result is not None:
            results.setdefault(outcome.start, {})[outcome.seed] = outcome.result
    steps = description.steps_per_epoch
    return Block(
        target=target,
        condition=condition,
        description=description,
        rows=_rows(results, ranks, metric, steps),
        curves={
            start: [_curve(result, steps) for result in results[start].values()]
            for start in TRAINED
        },
        levels=_levels(results),
        unfinished=[(o.start, o.seed) for o in outcomes if o.start in TRAINED and _still_rises(o)],
        valid_metric=next(iter(results[SCRATCH].values())).valid_metric,
        users=ranks["user"].n_unique(),
        targets=len(ranks.filter(label=SCRATCH, seed=ranks["seed"][0])),
    )


def _rows(
    results: dict[str, dict[int, Result]], ranks: pl.DataFrame, metric: str, steps: int
) -> list[Row]:
    values = seed_values(ranks, metric)
    labels, sums, counts = user_table(ranks, metric)
    spans = dict(zip(labels, intervals(sums, counts), strict=True))
    tested = compare(ranks.filter(pl.col("label").is_in(TRAINED)), metric, SCRATCH)
    differences = difference_intervals(ranks, metric, SCRATCH)
    rows = []
    for start in sorted(labels, key=_place):
        own = results.get(start, {})
        scores = [r.best_valid_score for r in own.values() if r.best_valid_score is not None]
        times = [reached(own, results[SCRATCH], share, steps) for share in SHARES]
        rows.append(
            Row(
                start=start,
                values=values[start],
                interval=spans[start],
                difference=differences.get(start),
                comparison=tested.get(start),
                valid=scores,
                reached=times if start in TRAINED else [],
                best_epochs=[r.best_epoch for r in own.values()] if start in TRAINED else [],
            )
        )
    return rows


def _place(start: str) -> tuple[int, str]:
    order = (*TRAINED, *UNTRAINED_ROWS)
    return (order.index(start) if start in order else len(order), start)


def _curve(result: Result, steps: int) -> Curve:
    return [((entry["epoch"] + 1) * steps, entry["valid_score"]) for entry in result.history]


def _levels(results: dict[str, dict[int, Result]]) -> dict[str, float]:
    levels = {}
    for start in NOT_TRAINED:
        scores = [r.best_valid_score for r in results.get(start, {}).values()]
        known = [score for score in scores if score is not None]
        if known:
            levels[start] = sum(known) / len(known)
    return levels


def _still_rises(outcome: Outcome) -> bool:
    result = outcome.result
    if result is None:
        return False
    most_epochs = outcome.config["epochs"]
    return still_rises(result.history, result.best_epoch, result.epochs, most_epochs)
