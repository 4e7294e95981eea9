"""The numbers of a report, from the finished runs."""

from typing import NamedTuple

import polars as pl

from recbole_mm.compare.dataset_description import DatasetDescription
from recbole_mm.compare.knockout import ALL
from recbole_mm.compare.runs import EntryRun, Failure
from recbole_mm.compare.settings import Settings
from recbole_mm.compare.slices import Slice, slices
from recbole_mm.compare.worker import COSTS
from recbole_mm.config.errors import ConfigError
from recbole_mm.reporting.environment import by_environment
from recbole_mm.reporting.figures import Curve
from recbole_mm.reporting.ranks import CANDIDATES, LIST_METRICS, MASKED
from recbole_mm.reporting.statistics import (
    Comparison,
    Interval,
    compare,
    deviation,
    intervals,
    seed_values,
    user_table,
)
from recbole_mm.run.result import epoch_in_words, still_rises

COMMON_METRICS = ("Recall", "NDCG", "MRR")


class Background(NamedTuple):
    """What holds for all numbers of a comparison.

    Attributes:
        dataset: the data set as the protocol splits it.
        conditions: split, candidates, masking, ties: printed with every number.
        warning: warning about what the protocol leaks, if anything.
        hashes: SHA-256 of the files of the data set.
    """

    dataset: DatasetDescription
    conditions: str
    warning: str | None
    hashes: dict[str, str]


class Row(NamedTuple):
    """One entry in the main table.

    Attributes:
        label: name of the entry.
        seeds: number of finished runs.
        means: metric -> mean over seeds.
        deviations: metric -> standard deviation over seeds, ``None`` for one seed.
        other_means, other_deviations: means and deviations with the other treatment of the seen
            items; empty for lists that are too short for it.
        interval: interval over users of the metric of the tests.
        against_baseline: comparison with the baseline; ``None`` for the baseline itself.
        cost: means of epochs, seconds, parameters; empty for lists of another tool.
    """

    label: str
    seeds: int
    means: dict[str, float]
    deviations: dict[str, float | None]
    other_means: dict[str, float]
    other_deviations: dict[str, float | None]
    interval: Interval
    against_baseline: Comparison | None
    cost: dict[str, float]


class Summary(NamedTuple):
    """All numbers of a report.

    Attributes:
        settings: settings of the comparison.
        background: facts that hold for all numbers.
        rows: rows of the main table.
        slices: slices by popularity, history length and modality.
        knockouts: label -> name of the knock-out -> value with interval.
        valid_metric: metric that early stopping watches.
        configs: label -> configuration of its first run; empty for ensembles and lists.
        best_epochs: label -> best epoch of each seed, in words.
        curves: label -> ``valid_metric`` on the validation targets by epoch, one curve per seed.
        failures: runs that did not finish.
        unfinished_curves: runs whose best epoch is the last allowed one.
        environments: software and hardware of the runs, each with the labels of its runs.
        ranks: every rank with all features, and the head of its list (``recommended``); read when
            collected.
    """

    settings: Settings
    background: Background
    rows: list[Row]
    slices: list[Slice]
    knockouts: dict[str, dict[str, Interval]]
    valid_metric: str
    configs: dict[str, dict]
    best_epochs: dict[str, list[str]]
    curves: dict[str, list[Curve]]
    failures: list[Failure]
    unfinished_curves: list[EntryRun]
    environments: list[tuple[dict[str, str], list[str]]]
    ranks: pl.LazyFrame


def summarize(
    settings: Settings, runs: list[EntryRun], failures: list[Failure], background: Background
) -> Summary:
    """All numbers from the finished runs.

    Raises:
        ConfigError: no run of the baseline has finished, the files of a run cannot be read, or
            entries differ in their candidates or test targets.
    """
    labels = settings.labels
    finished = [run for label in labels for run in runs if run.label == label and run.finished]
    _refuse_missing_baseline(settings.baseline, finished, failures)
    candidates = {run.label: run.result()["n_items"] for run in finished}
    if len(set(candidates.values())) > 1:
        raise ConfigError(f"the entries rank different numbers of items: {candidates}")
    every = pl.concat(run.ranks() for run in finished)
    treatment = MASKED if settings.mask_seen else CANDIDATES
    lists = every.filter(pl.col("seen") == treatment)
    tables = lists.drop("recommended").collect()
    ranks = tables.filter(pl.col("features") == ALL)
    refuse_other_targets(ranks)
    other = (pl.col("seen") != treatment) & (pl.col("features") == ALL)
    other_ranks = every.filter(other).drop("recommended").collect()
    return Summary(
        settings=settings,
        background=background,
        rows=_rows(settings, finished, ranks, other_ranks),
        slices=slices(ranks, background.dataset.items, settings.metric, settings.baseline),
        knockouts=_knockouts(tables, settings.metric),
        valid_metric=finished[0].plan()["config"]["valid_metric"],
        configs=_configs(finished),
        best_epochs=_best_epochs(finished),
        curves=_curves(finished),
        failures=failures,
        unfinished_curves=[run for run in finished if _still_rises(run)],
        environments=by_environment((run.result()["environment"], run.label) for run in finished),
        ranks=lists.filter(pl.col("features") == ALL),
    )


def refuse_other_targets(ranks: pl.DataFrame) -> None:
    """Every label and seed must have the same test targets.

    Args:
        ranks: ``label``, ``seed``, ``user``, ``item``.

    Raises:
        ConfigError: two of them have different targets.
    """
    first = None
    for (label, _), rows in ranks.group_by(["label", "seed"], maintain_order=True):
        targets = rows.select("user", "item").sort("user", "item")
        first = targets if first is None else first
        if not targets.equals(first):
            raise ConfigError(
                f"{label} was tested on other targets than {ranks['label'][0]}: entries must read "
                f"the same interactions (load_col, filters) to be compared"
            )


def _refuse_missing_baseline(
    baseline: str, finished: list[EntryRun], failures: list[Failure]
) -> None:
    others = dict.fromkeys(run.label for run in finished)
    if baseline in others:
        return
    reasons = "; ".join(f"{f.run.label}, seed {f.run.seed}: {f.reason}" for f in failures)
    fix = f": give another --baseline, one of {', '.join(others)}" if others else ""
    raise ConfigError(f"no run of the baseline {baseline} has finished{fix} ({reasons})")


def _still_rises(run: EntryRun) -> bool:
    result, most_epochs = run.result(), run.plan()["config"]["epochs"]
    history, best_epoch = result["history"], result["best_epoch"]
    return still_rises(history, best_epoch, result["epochs"] or 0, most_epochs)


def _rows(
    settings: Settings, finished: list[EntryRun], ranks: pl.DataFrame, other_ranks: pl.DataFrame
) -> list[Row]:
    names = [f"{name}@{k}" for name in COMMON_METRICS for k in settings.topk]
    names = list(dict.fromkeys([*names, settings.metric]))
    by_label = {name: seed_values(ranks, name) for name in names}
    other_by_label = {name: seed_values(other_ranks, name) for name in names}
    treatment = MASKED if settings.mask_seen else CANDIDATES
    comparisons = compare(ranks, settings.metric, settings.baseline)
    labels, sums, counts = user_table(ranks, settings.metric)
    spans = dict(zip(labels, intervals(sums, counts), strict=True))
    rows = []
    for label in dict.fromkeys(run.label for run in finished):
        results = [run.result() for run in finished if run.label == label]
        values = {name: per_label[label] for name, per_label in by_label.items()}
        values |= _list_metrics([result["metrics"][treatment] for result in results])
        others = {
            name: per_label[label]
            for name, per_label in other_by_label.items()
            if label in per_label
        }
        rows.append(
            Row(
                label=label,
                seeds=len(results),
                means={name: sum(v) / len(v) for name, v in values.items()},
                deviations={name: deviation(v) for name, v in values.items()},
                other_means={name: sum(v) / len(v) for name, v in others.items()},
                other_deviations={name: deviation(v) for name, v in others.items()},
                interval=spans[label],
                against_baseline=comparisons.get(label),
                cost=_costs(results),
            )
        )
    return rows


def _costs(results: list[dict]) -> dict[str, float]:
    known = [key for key in COSTS if results[0][key] is not None]
    return {key: sum(result[key] for result in results) / len(results) for key in known}


def _list_metrics(metrics: list[dict[str, float]]) -> dict[str, list[float]]:
    """RecBole's metrics of whole lists, one value per seed."""
    prefixes = tuple(metric.lower() for metric in LIST_METRICS)
    names = [name for name in metrics[0] if name.startswith(prefixes)]
    return {name: [of_seed[name] for of_seed in metrics] for name in names}


def _knockouts(tables: pl.DataFrame, metric: str) -> dict[str, dict[str, Interval]]:
    values = {}
    for (label,), rows in tables.group_by(["label"], maintain_order=True):
        if rows["features"].n_unique() > 1:
            renamed = rows.with_columns(label=pl.col("features"))
            names, sums, counts = user_table(renamed, metric)
            spans = dict(zip(names, intervals(sums, counts), strict=True))
            order = rows["features"].unique(maintain_order=True)
            values[label] = {name: spans[name] for name in order}
    return values


def _configs(finished: list[EntryRun]) -> dict[str, dict]:
    plans = {run.label: run.plan() for run in reversed(finished)}
    return {
        label: {} if "members" in plan or "lists" in plan else plan["config"]
        for label, plan in reversed(plans.items())
    }


def _best_epochs(finished: list[EntryRun]) -> dict[str, list[str]]:
    epochs: dict[str, list[str]] = {}
    for run in finished:
        best = run.result()["best_epoch"]
        epochs.setdefault(run.label, []).extend([] if best is None else [epoch_in_words(best)])
    return epochs


def _curves(finished: list[EntryRun]) -> dict[str, list[Curve]]:
    curves: dict[str, list[Curve]] = {}
    for run in finished:
        history = run.result()["history"]
        curve = [(entry["epoch"] + 1, entry["valid_score"]) for entry in history]
        if curve:
            curves.setdefault(run.label, []).append(curve)
    return curves
