r"""A whole comparison: planned, checked before anything runs, run, and summed up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import polars as pl

from recbole_mm.compare.data_under_protocol import Described, describe_all
from recbole_mm.compare.entries import Entry, config_of
from recbole_mm.compare.figures import Curve
from recbole_mm.compare.knockout import ALL
from recbole_mm.compare.protocols import find_protocol, leak_warning
from recbole_mm.compare.ranks import LIST_METRICS, parse_metric
from recbole_mm.compare.runs import Failure, Run, execute, find_run, only_one_in, plan
from recbole_mm.compare.slices import Slice, slices
from recbole_mm.compare.statistics import (
    Comparison,
    Interval,
    compare,
    deviation,
    intervals,
    seed_values,
    user_table,
)
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.plain import config_to_plain
from recbole_mm.run.identity import data_hashes
from recbole_mm.run.run import knows_query_time
from recbole_mm.run.splits import find_or_make

COMMON_METRICS = ("Recall", "NDCG", "MRR")
BY_OPTION = {
    "config_files": "MODEL@FILE.yaml in --models",
    "eval_args": "--protocol",
    "model": "--models",
    "seed": "--seeds",
}
"""Keys that the command has options for."""


class Settings(NamedTuple):
    """What is compared and how.

    Attributes:
        entries: models with their settings.
        dataset: name of the data set.
        seeds: of the runs of every entry.
        baseline: label of the entry that the others are tested against.
        protocol: name of the split.
        mask_seen: whether what a user has had before is no candidate at test.
        metric: the one of tests, intervals and slices.
        topk: lengths of the lists in the table of metrics.
        overrides: configuration keys for all entries.
        out: folder of runs and report.
    """

    entries: list[Entry]
    dataset: str
    seeds: list[int]
    baseline: str
    protocol: str
    mask_seen: bool
    metric: str
    topk: list[int]
    overrides: dict
    out: Path


class Row(NamedTuple):
    """One entry in the main table.

    Attributes:
        label: its name.
        seeds: finished runs.
        means: metric -> mean over seeds.
        deviations: metric -> standard deviation over seeds, ``None`` for one seed.
        interval: of the metric of the tests, over users.
        against_baseline: ``None`` for the baseline.
        cost: means of epochs, seconds, parameters.
    """

    label: str
    seeds: int
    means: dict[str, float]
    deviations: dict[str, float | None]
    interval: Interval
    against_baseline: Comparison | None
    cost: dict[str, float]


class Summary(NamedTuple):
    """All numbers of a report.

    Attributes:
        settings: what was compared.
        conditions: split, candidates, masking, ties: printed with every number.
        warning: what the protocol leaks, if anything.
        described: the data set under the protocol.
        hashes: SHA-256 of its files.
        rows: the main table.
        slices: by popularity, history length and modality.
        knockouts: label -> set of features -> value with interval.
        valid_metric: what early stopping watches.
        curves: label -> per seed, that metric on the validation targets by epoch.
        failures: runs that did not finish.
        environments: what the runs were made with, each with the labels of these runs.
        ranks: every rank with all features, and the head of its list (``recommended``); read when
            collected.
    """

    settings: Settings
    conditions: str
    warning: str | None
    described: Described
    hashes: dict[str, str]
    rows: list[Row]
    slices: list[Slice]
    knockouts: dict[str, dict[str, Interval]]
    valid_metric: str
    curves: dict[str, list[Curve]]
    failures: list[Failure]
    environments: list[tuple[dict[str, str], list[str]]]
    ranks: pl.LazyFrame


def run_comparison(
    settings: Settings,
    configs: dict,
    gpus: list[str],
    jobs: int,
    log: Callable[[str], None],
    report_only: bool = False,
) -> Summary:
    """Run what is missing, then sum up all that is finished.

    Every entry runs with the first seed before any runs with the second.

    Args:
        settings: what is compared.
        configs: what :func:`check` gave.
        gpus: that runs are given, one each.
        jobs: processes at once.
        log: told of what happens.
        report_only: run nothing; another command may be running in the folder.

    Raises:
        ConfigError: data that cannot be read or split, entries that do not have their targets in
            common, another comparison is running in this folder, or no run of the baseline has
            finished.
    """
    described = describe_all(configs)
    warning = leak_warning(settings.protocol, described.later)
    if warning:
        log(f"warning: {warning}")
    runs = [
        find_run(entry, configs[entry.label, seed], settings.out, settings.mask_seen)
        for seed in settings.seeds
        for entry in settings.entries
    ]
    if report_only:
        failures = [Failure(run, "not finished") for run in runs if not run.finished]
    else:
        with only_one_in(settings.out) as lock:
            for run in runs:
                plan(run, configs[run.label, run.seed], settings.mask_seen)
            failures = execute(runs, gpus, jobs, lock, log)
    hashes = {name: h for config in configs.values() for name, h in data_hashes(config).items()}
    said = conditions(settings, described, configs)
    return summarize(settings, runs, failures, described, hashes, said, warning)


def check(settings: Settings) -> dict:
    """The configuration of every run, by label and seed; nothing is run.

    Raises:
        ConfigError: an entry's configuration or the data cannot be used, or two entries are equal.
    """
    parse_metric(settings.metric)
    for k in settings.topk:
        parse_metric(f"NDCG@{k}")
    overlay = find_protocol(settings.protocol).overlay
    for key, option in BY_OPTION.items():
        if key in settings.overrides:
            raise ConfigError(f"--{key}: give {option} instead")
    if "held_out_items" in settings.overrides and "held_out_items" not in overlay:
        raise ConfigError("--held_out_items goes with --protocol=cold_start")
    labels = [entry.label for entry in settings.entries]
    if settings.baseline not in labels:
        raise ConfigError(f"baseline {settings.baseline!r} is none of {', '.join(labels)}")
    configs, known = {}, {}
    for entry in settings.entries:
        for seed in settings.seeds:
            overrides = {**settings.overrides, "seed": seed}
            config = config_of(entry, settings.dataset, overlay, overrides)
            if config["benchmark_filename"]:
                raise ConfigError(
                    f"benchmark_filename {config['benchmark_filename']}: compare divides the events "
                    f"by --protocol; give them as one file {config['dataset']}.inter"
                )
            find_or_make(config)
            configs[entry.label, seed] = config
        plain = json.dumps(config_to_plain(configs[entry.label, settings.seeds[0]]))
        other = known.setdefault(plain, entry.label)
        if other != entry.label:
            raise ConfigError(
                f"--models: {other} and {entry.label} are the same configuration: leave one out"
            )
    return configs


def conditions(settings: Settings, described: Described, configs: dict) -> str:
    """How the numbers were made, in a sentence or two."""
    timed = list(dict.fromkeys(label for (label, _), c in configs.items() if knows_query_time(c)))
    seen = "are candidates as well (not masked)"
    if settings.mask_seen:
        seen = "are no candidates at test (in validation they are)"
    return (
        f"{find_protocol(settings.protocol).description} Each target is ranked among all "
        f"{described.counts['items']:,} items; items in the user's history {seen}. Of equal "
        f"scores half count as better."
    ) + (f" The time of the target is known to {', '.join(timed)} alone." if timed else "")


def summarize(
    settings: Settings,
    runs: list[Run],
    failures: list[Failure],
    described: Described,
    hashes: dict[str, str],
    said: str,
    warning: str | None,
) -> Summary:
    """All numbers from the finished runs.

    Raises:
        ConfigError: no run of the baseline has finished, what one has written cannot be read, or
            entries differ in their candidates or test targets.
    """
    labels = [entry.label for entry in settings.entries]
    finished = [run for label in labels for run in runs if run.label == label and run.finished]
    if settings.baseline not in {run.label for run in finished}:
        reasons = "; ".join(f"{f.run.label}, seed {f.run.seed}: {f.reason}" for f in failures)
        others = dict.fromkeys(run.label for run in finished)
        fix = f": give another --baseline, of {', '.join(others)}" if others else ""
        raise ConfigError(
            f"no run of the baseline {settings.baseline} has finished{fix} ({reasons})"
        )
    candidates = {run.label: run.result()["n_items"] for run in finished}
    if len(set(candidates.values())) > 1:
        raise ConfigError(f"the entries rank different numbers of items: {candidates}")
    lists = pl.concat(run.ranks() for run in finished)
    tables = lists.drop("recommended").collect()
    ranks = tables.filter(pl.col("features") == ALL)
    _refuse_other_targets(ranks)
    return Summary(
        settings,
        said,
        warning,
        described,
        hashes,
        _rows(settings, finished, ranks),
        slices(ranks, described.items, settings.metric, settings.baseline),
        _knockouts(tables, settings.metric),
        finished[0].plan()["config"]["valid_metric"],
        _curves(finished),
        failures,
        _environments(finished),
        lists.filter(pl.col("features") == ALL),
    )


def _refuse_other_targets(ranks: pl.DataFrame) -> None:
    first = None
    for (label, _), rows in ranks.group_by(["label", "seed"], maintain_order=True):
        targets = rows.select("user", "item").sort("user", "item")
        first = targets if first is None else first
        if not targets.equals(first):
            raise ConfigError(
                f"{label} was tested on other targets than {ranks['label'][0]}: entries have to "
                f"read the same interactions (load_col, filters) to be compared"
            )


def _rows(settings: Settings, finished: list[Run], ranks: pl.DataFrame) -> list[Row]:
    names = [f"{name}@{k}" for name in COMMON_METRICS for k in settings.topk]
    values = {name: seed_values(ranks, name) for name in dict.fromkeys([*names, settings.metric])}
    compared = compare(ranks, settings.metric, settings.baseline)
    labels, sums, counts = user_table(ranks, settings.metric)
    spans = dict(zip(labels, intervals(sums, counts), strict=True))
    rows = []
    for label in dict.fromkeys(run.label for run in finished):
        results = [run.result() for run in finished if run.label == label]
        listed = {
            name: [result["metrics"][name] for result in results]
            for name in results[0]["metrics"]
            if name.startswith(tuple(metric.lower() for metric in LIST_METRICS))
        }
        own = {**{name: of_label[label] for name, of_label in values.items()}, **listed}
        keys = ("epochs", "seconds", "n_parameters")
        rows.append(
            Row(
                label,
                len(results),
                {name: sum(v) / len(v) for name, v in own.items()},
                {name: deviation(v) for name, v in own.items()},
                spans[label],
                compared.get(label),
                {key: sum(result[key] for result in results) / len(results) for key in keys},
            )
        )
    return rows


def _knockouts(tables: pl.DataFrame, metric: str) -> dict[str, dict[str, Interval]]:
    values = {}
    for (label,), rows in tables.group_by(["label"], maintain_order=True):
        if rows["features"].n_unique() > 1:
            renamed = rows.with_columns(label=pl.col("features"))
            names, sums, counts = user_table(renamed, metric)
            found = dict(zip(names, intervals(sums, counts), strict=True))
            order = rows["features"].unique(maintain_order=True)
            values[label] = {name: found[name] for name in order}
    return values


def _environments(finished: list[Run]) -> list[tuple[dict[str, str], list[str]]]:
    found: list[tuple[dict[str, str], list[str]]] = []
    for run in finished:
        environment = run.result()["environment"]
        labels = next((labels for known, labels in found if known == environment), None)
        if labels is None:
            found.append((environment, [run.label]))
        elif run.label not in labels:
            labels.append(run.label)
    return found


def _curves(finished: list[Run]) -> dict[str, list[Curve]]:
    curves = {}
    for run in finished:
        history = run.result()["history"]
        curve = [(entry["epoch"] + 1, entry["valid_score"]) for entry in history]
        curves.setdefault(run.label, []).append(curve)
    return curves
