"""A whole comparison: its runs, then the numbers of its report."""

from collections.abc import Callable

from recbole_mm.compare.dataset_description import DatasetDescription, describe_common_dataset
from recbole_mm.compare.ensembles import Ensemble
from recbole_mm.compare.lists import write_lists_run
from recbole_mm.compare.protocols import find_protocol, leak_warning
from recbole_mm.compare.runs import (
    EntryRun,
    Failure,
    Remote,
    execute,
    find_ensemble_run,
    find_run,
    only_one_in,
    plan,
    plan_ensemble,
)
from recbole_mm.compare.settings import Configs, Settings
from recbole_mm.compare.summary import Background, Summary, summarize
from recbole_mm.reporting.conditions import ranking_conditions, tie_conditions
from recbole_mm.run.identity import data_hashes
from recbole_mm.run.run import knows_query_time


def run_comparison(
    settings: Settings,
    configs: Configs,
    gpus: list[str],
    jobs: int,
    log: Callable[[str], None],
    report_only: bool = False,
    remote: Remote | None = None,
) -> Summary:
    """Run what is missing, then summarize everything that has finished.

    Every entry runs with the first seed before any runs with the second.

    Args:
        settings: settings of the comparison.
        configs: configurations of all runs, see
            :func:`~recbole_mm.compare.settings.configurations`.
        gpus: GPUs for the runs, one each.
        jobs: number of concurrent processes.
        log: function that is called with a line about each event.
        report_only: whether to run nothing; another command may be running in the folder.
        remote: place that runs the entries; ensembles, which read the checkpoints of their members,
            run on this machine.

    Raises:
        ConfigError: the data cannot be read or split, the entries have different targets, another
            comparison is running in this folder, or no run of the baseline has finished.
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
    config = next(iter(configs.values()))
    judged = [write_lists_run(lists, settings, config) for lists in settings.lists]
    members = members_of(settings, runs)
    ensembles = [
        find_ensemble_run(ensemble, trained, settings.out) for ensemble, trained in members
    ]
    if report_only:
        for run in (*runs, *ensembles):
            run.set_aside_if_damaged()
        failures = [Failure(r, "not finished") for r in (*runs, *ensembles) if not r.finished]
    else:
        with only_one_in(settings.out):
            for run in runs:
                plan(run, configs[run.label, run.seed])
                run.set_aside_if_damaged()
            failures = execute(runs, gpus, jobs, log, remote)
            ready = []
            for run, (_, trained) in zip(ensembles, members, strict=True):
                if all(member.finished for member in trained):
                    plan_ensemble(run, trained)
                    run.set_aside_if_damaged()
                    ready.append(run)
                else:
                    failures.append(Failure(run, "one of its members has no result"))
            failures += execute(ready, gpus, 1, log) if ready else []
    runs += ensembles + judged
    hashes = {name: h for config in configs.values() for name, h in data_hashes(config).items()}
    background = Background(dataset, conditions(settings, dataset, configs), warning, hashes)
    return summarize(settings, runs, failures, background)


def members_of(settings: Settings, runs: list[EntryRun]) -> list[tuple[Ensemble, list[EntryRun]]]:
    """Every ensemble, once per seed or once over all seeds, with the runs of its members."""
    by_label = {(run.label, run.seed): run for run in runs}
    together: list[tuple[Ensemble, list[EntryRun]]] = []
    for first, seed in enumerate(settings.seeds):
        for ensemble in settings.ensembles:
            seeds = settings.seeds if ensemble.over_seeds else [seed]
            if first == 0 or not ensemble.over_seeds:
                members = [by_label[label, each] for each in seeds for label in ensemble.members]
                together.append((ensemble, members))
    return together


def conditions(settings: Settings, dataset: DatasetDescription, configs: Configs) -> str:
    """How the numbers were computed, in a few sentences."""
    config = next(iter(configs.values()))
    same_domain = bool(config["same_domain_candidates"])
    sentences = [
        find_protocol(settings.protocol).description,
        *ranking_conditions(dataset.counts["items"], settings.mask_seen, same_domain),
        *tie_conditions(config["tie_order"], dataset.tied_targets, dataset.counts["test targets"]),
    ]
    timed = dict.fromkeys(label for (label, _), c in configs.items() if knows_query_time(c))
    if timed:
        sentences.append(f"The time of the target is known only to {', '.join(timed)}.")
    return " ".join(sentences)
