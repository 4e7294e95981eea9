"""A whole comparison: its runs, then the numbers of its report."""

from collections.abc import Callable

from recbole_mm.compare.dataset_description import DatasetDescription, describe_common_dataset
from recbole_mm.compare.protocols import find_protocol, leak_warning
from recbole_mm.compare.runs import Failure, execute, find_run, only_one_in, plan
from recbole_mm.compare.settings import Configs, Settings
from recbole_mm.compare.summary import Background, Summary, summarize
from recbole_mm.run.identity import data_hashes
from recbole_mm.run.run import knows_query_time

TIES = {
    "file": "in the order of the file",
    "item": "in the order of the items' tokens",
    "random": "in a random order, the same for every run",
}
"""``tie_order`` in words."""


def run_comparison(
    settings: Settings,
    configs: Configs,
    gpus: list[str],
    jobs: int,
    log: Callable[[str], None],
    report_only: bool = False,
) -> Summary:
    """Run what is missing, then sum up all that is finished.

    Every entry runs with the first seed before any runs with the second.

    Args:
        settings: what is compared.
        configs: of every run, see :func:`~recbole_mm.compare.settings.configurations`.
        gpus: GPUs for the runs, one each.
        jobs: processes at once.
        log: called with a line about each event.
        report_only: run nothing; another command may be running in the folder.

    Raises:
        ConfigError: data that cannot be read or split, entries that do not have their targets in
            common, another comparison is running in this folder, or no run of the baseline has
            finished.
    """
    dataset = describe_common_dataset(configs)
    warning = leak_warning(settings.protocol, dataset.later)
    if warning:
        log(f"warning: {warning}")
    runs = [
        find_run(entry, configs[entry.label, seed], settings.out)
        for seed in settings.seeds
        for entry in settings.entries
    ]
    if report_only:
        failures = [Failure(run, "not finished") for run in runs if not run.finished]
    else:
        with only_one_in(settings.out) as lock:
            for run in runs:
                plan(run, configs[run.label, run.seed])
            failures = execute(runs, gpus, jobs, lock, log)
    hashes = {name: h for config in configs.values() for name, h in data_hashes(config).items()}
    background = Background(dataset, conditions(settings, dataset, configs), warning, hashes)
    return summarize(settings, runs, failures, background)


def conditions(settings: Settings, dataset: DatasetDescription, configs: Configs) -> str:
    """How the numbers were made, in a few sentences."""
    history = "are candidates too (not masked)"
    if settings.mask_seen:
        history = "are not candidates at test (in validation they are)"
    n_items = dataset.counts["items"]
    sentences = [
        find_protocol(settings.protocol).description,
        f"Each target is ranked among all {n_items:,} items; items in the user's history {history}.",
        "Of the other items with the same score, half count as ranked higher.",
    ]
    order = next(iter(configs.values()))["tie_order"]
    if dataset.tied_targets:
        share = dataset.tied_targets / dataset.counts["test targets"]
        sentences.append(
            f"Events of a user at the same time are {TIES[order]} (tie_order: {order}); "
            f"{dataset.tied_targets:,} test targets ({share:.0%}) depend on that order."
        )
    timed = dict.fromkeys(label for (label, _), c in configs.items() if knows_query_time(c))
    if timed:
        sentences.append(f"The time of the target is known only to {', '.join(timed)}.")
    return " ".join(sentences)
