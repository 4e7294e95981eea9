"""What is compared and how, and the configuration of every run, checked before anything runs."""

import json
from pathlib import Path
from typing import NamedTuple

from recbole_mm.compare.ensembles import Ensemble
from recbole_mm.compare.entries import Entry, ForeignLists, config_of
from recbole_mm.compare.protocols import find_protocol
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import RunConfig
from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.builtin import ensure_builtin
from recbole_mm.prepare.catalog import require_dataset
from recbole_mm.reporting.metrics import parse_metric

BY_OPTION = {
    "config_files": "MODEL@FILE.yaml in --models",
    "eval_args": "--protocol",
    "model": "--models",
    "seed": "--seeds",
}
"""Keys that are set by an option of the command."""

Configs = dict[tuple[str, int], RunConfig]
"""Configurations by label and seed."""


class Settings(NamedTuple):
    """What is compared and how.

    Attributes:
        entries: models with their settings.
        ensembles: ensembles of entries.
        lists: labels and files of the lists of other tools.
        dataset: name of the data set.
        seeds: random seeds, one per run of an entry.
        baseline: label of the entry that the others are compared with.
        protocol: name of the split.
        mask_seen: whether tests, slices and figures use ranks among the items that are not in the
            user's history; the table of metrics has both.
        metric: metric of tests, intervals and slices.
        topk: lengths of the lists in the table of metrics.
        overrides: configuration keys for all entries.
        out: folder of runs and report.
    """

    entries: list[Entry]
    ensembles: list[Ensemble]
    lists: list[ForeignLists]
    dataset: str
    seeds: list[int]
    baseline: str
    protocol: str
    mask_seen: bool
    metric: str
    topk: list[int]
    overrides: dict
    out: Path

    @property
    def labels(self) -> list[str]:
        """Entries, ensembles, then lists."""
        named = (self.entries, self.ensembles, self.lists)
        return [part.label for parts in named for part in parts]


def configurations(settings: Settings) -> Configs:
    """The configuration of every run, by label and seed; nothing is run.

    Raises:
        ConfigError: an entry's configuration or the data cannot be used, or two entries are equal.
    """
    overlay = find_protocol(settings.protocol).overlay
    _check_options(settings, overlay)
    configs = {}
    for entry in settings.entries:
        for seed in settings.seeds:
            overrides = {**settings.overrides, "seed": seed}
            config = config_of(entry, settings.dataset, overlay, overrides)
            _check_dataset(config)
            configs[entry.label, seed] = config
    _refuse_equal_entries({label: config for (label, _), config in configs.items()})
    return configs


def _check_options(settings: Settings, overlay: dict) -> None:
    parse_metric(settings.metric)
    for k in settings.topk:
        parse_metric(f"NDCG@{k}")
    for key, option in BY_OPTION.items():
        if key in settings.overrides:
            raise ConfigError(f"--{key}: give {option} instead")
    if "held_out_items" in settings.overrides and "held_out_items" not in overlay:
        raise ConfigError("--held_out_items needs --protocol=cold_start: give both")
    _check_ensembles_and_lists(settings)
    if settings.baseline not in settings.labels:
        known = ", ".join(settings.labels)
        raise ConfigError(f"--baseline={settings.baseline}: must be one of {known}")


def _check_ensembles_and_lists(settings: Settings) -> None:
    for ensemble in settings.ensembles:
        if ensemble.over_seeds and len(settings.seeds) < 2:
            raise ConfigError(
                f"--models: {ensemble.label} adds the scores of several seeds: give e.g. --seeds=3"
            )
    for lists in settings.lists:
        if settings.labels.count(lists.label) > 1:
            raise ConfigError(
                f"--lists: {lists.label} is also the name of an entry: give another name"
            )


def _check_dataset(config: RunConfig) -> None:
    if config["benchmark_filename"]:
        raise ConfigError(
            f"benchmark_filename {config['benchmark_filename']}: compare splits the events by "
            f"--protocol; give them as one file {config['dataset']}.inter"
        )
    require_dataset(config)
    ensure_builtin(config)


def _refuse_equal_entries(configs: dict[str, RunConfig]) -> None:
    """``configs``: configurations by label, all with the same seed."""
    labels: dict[str, str] = {}
    for label, config in configs.items():
        first = labels.setdefault(json.dumps(config_to_plain(config)), label)
        if first != label:
            raise ConfigError(
                f"--models: {first} and {label} have the same configuration: remove one"
            )
