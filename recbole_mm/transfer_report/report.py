"""A transfer report: one HTML page, the same as Markdown, and its parts as files."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from recbole_mm.reporting.conditions import LEAVE_ONE_OUT, ranking_conditions, tie_conditions
from recbole_mm.reporting.environment import by_environment
from recbole_mm.reporting.figures import svg_text, write_figure
from recbole_mm.reporting.page import render
from recbole_mm.reporting.parts import remove_stale
from recbole_mm.reporting.ranks import CANDIDATES, MASKED
from recbole_mm.reporting.statistics import LEVEL, RESAMPLES
from recbole_mm.reporting.tables import (
    Table,
    aligned,
    environment_table,
    settings_table,
    write_tables,
)
from recbole_mm.tools.counts import percent
from recbole_mm.tools.file_names import label_as_name
from recbole_mm.tools.files import whole_or_not, write_text
from recbole_mm.transfer_report import tables
from recbole_mm.transfer_report.figures import curves_figure, sizes_figure
from recbole_mm.transfer_report.numbers import numbers
from recbole_mm.transfer_report.settings import ALL
from recbole_mm.transfer_report.study import Study
from recbole_mm.transfer_report.summary import Block
from recbole_mm.transfer_report.variants import UNFROZEN
from recbole_mm.transfer_report.words import sentence

TRANSFER_KEYS = (
    "domains", "exclude_users_of", "held_out_domains", "domain_sampling", "domain_curriculum",
    "same_domain_negatives", "same_domain_candidates", "adapters_per_domain", "transform_per_domain",
    "pre_model_path", "validate_start", "reset", "freeze", "lora_rank", "group_learning_rates",
)  # fmt: skip
"""Keys that define the data of pre-training, and how a target starts from the pre-trained model."""


PARTS = (
    "tables/starts_*.tex", "tables/pace_*.tex", "tables/searched.tex",
    *(f"figures/{kind}_*.{form}" for kind in ("learning", "sizes") for form in ("svg", "pdf")),
)  # fmt: skip
"""Patterns of the files that not every report has."""


class Section(NamedTuple):
    """A target on the page.

    Attributes:
        target: name of the target.
        sentences: effect of pre-training, in words, under each condition.
        tables: tables by file name.
        figures: figures by file name.
    """

    target: str
    sentences: list[str]
    tables: dict[str, Table]
    figures: dict[str, Figure]


def write_report(study: Study, blocks: list[Block], command: str) -> list[Path]:
    """Write ``report.html``, ``report.md``, all numbers (``numbers.csv``), ``tables/*.tex`` and
    ``figures/*.svg`` and ``.pdf``.

    Args:
        study: study that was run.
        blocks: numbers of the study.
        command: command line that produced them.

    Returns:
        the paths.
    """
    out, metric = study.settings.out, study.settings.metric
    sections = sections_of(blocks, metric)
    shared = _shared_tables(study, blocks)
    content = {
        "title": f"Transfer to {', '.join(section.target for section in sections)}",
        "conditions": conditions(study, blocks),
        "unfinished_curves": unfinished_curves_note(blocks),
        "no_transfer": no_transfer_note(study),
        "sections": [_on_page(section) for section in sections],
        "notes": _notes(study),
        "tables": shared,
        "command": command,
    }
    paths = []
    for name in ("report.html", "report.md"):
        paths.append(out / name)
        write_text(paths[-1], render("recbole_mm.transfer_report", name, content))
    paths.append(out / "numbers.csv")
    seen = MASKED if study.settings.mask_seen else CANDIDATES
    with whole_or_not(paths[-1]) as temporary:
        numbers(blocks, metric, seen, study.settings.seeds).write_csv(temporary)
    own = {name: table for section in sections for name, table in section.tables.items()}
    paths += write_tables(own | shared, out / "tables")
    for section in sections:
        for name, figure in section.figures.items():
            paths += write_figure(figure, out / "figures" / name)
    remove_stale(out, PARTS, paths)
    return paths


def sections_of(blocks: list[Block], metric: str) -> list[Section]:
    """One section per target, in the order of the stages."""
    sections = []
    for target, group in groupby(blocks, key=lambda block: block.target):
        own = list(group)
        name = label_as_name(target)
        sized = [block for block in own if not block.condition.held_out_items]
        whole = next(block for block in sized if block.condition == ALL)
        figures = {f"learning_{name}": curves_figure(whole)} if any(whole.curves.values()) else {}
        if len(sized) > 1:
            figures[f"sizes_{name}"] = sizes_figure(sized, metric)
        tabled = {
            f"starts_{name}": tables.starts_table(own, metric),
            f"pace_{name}": tables.pace_table(own),
        }
        sections.append(Section(target, [sentence(b, metric) for b in own], tabled, figures))
    return sections


def text_report(study: Study, blocks: list[Block]) -> str:
    """The sentences and the main tables for the console."""
    lines = [conditions(study, blocks)]
    for section in sections_of(blocks, study.settings.metric):
        lines += ["", section.target, *aligned(next(iter(section.tables.values())))]
        lines += section.sentences
    if study.searched:
        lines += ["", "learning rates", *aligned(tables.searched_table(study))]
    notes = [no_transfer_note(study), unfinished_curves_note(blocks)]
    return "\n".join([*lines, *(f"warning: {note}" for note in notes if note)])


def _shared_tables(study: Study, blocks: list[Block]) -> dict[str, Table]:
    configs = {name: config for (name, _), (_, config) in reversed(study.pretrainings.items())}
    configs |= {
        outcome.target: outcome.config
        for outcome in reversed(study.outcomes)
        if outcome.start == UNFROZEN and outcome.condition == ALL
    }
    made_with = by_environment((outcome.environment, outcome.start) for outcome in study.outcomes)
    return {
        "searched": tables.searched_table(study),
        "pretraining": tables.pretraining_table(study),
        "settings": settings_table(dict(reversed(configs.items())), TRANSFER_KEYS),
        "data": tables.data_table(blocks),
        "hashes": tables.hashes_table(study),
        "environment": environment_table(made_with),
    }


def _on_page(section: Section) -> dict:
    starts, pace = section.tables.values()
    figures = {name.partition("_")[0]: Markup(svg_text(f)) for name, f in section.figures.items()}
    return {
        "target": section.target,
        "sentences": section.sentences,
        "starts": starts,
        "pace": pace,
        "figures": figures,
    }


def conditions(study: Study, blocks: list[Block]) -> str:
    """How the numbers were computed, in a few sentences."""
    settings = study.settings
    sentences = _conditions_of_targets(study, blocks)
    sentences += [f"{users}." for users in study.shared]
    own = {result.checkpoint for result, _ in study.pretrainings.values()}
    started = dict.fromkeys(
        o.config["pre_model_path"] for o in study.outcomes if o.start == UNFROZEN
    )
    sentences += [
        f"All seeds start from the same pre-trained model, {path}: no interval includes the "
        f"variation of pre-training."
        for path in started
        if path not in own
    ]
    if len(settings.sizes) > 1:
        sentences.append(
            "Smaller training sets are shares of the users, drawn with a fixed seed, each a part of "
            "the next larger one; the same users are validated and tested for all sizes, with their "
            "whole histories, and the models are trained only on users in the share."
        )
    if settings.new_items:
        sentences.append(
            f"New items: {percent(settings.new_items)} of the items, drawn with a fixed seed, are "
            f"excluded from training, validation and histories; tests on new items cover the users "
            f"whose target is one of them, ranked among all items."
        )
    sentences.append(
        "All trained starts on a target have the same number of optimizer steps, whatever the size "
        "of its training set, apart from rounding to whole epochs and early stopping."
    )
    return " ".join(sentences)


def _conditions_of_targets(study: Study, blocks: list[Block]) -> list[str]:
    """Split, candidates and ties of the targets, with the names of the targets if they differ."""
    settings = study.settings
    targets: dict[str, list[str]] = {}
    config_of = {outcome.target: outcome.config for outcome in study.outcomes}
    for target, group in groupby(blocks, key=lambda block: block.target):
        description = next(group).description
        counts = description.counts
        config = config_of[target]
        same_domain = bool(config["same_domain_candidates"])
        ranking = ranking_conditions(counts["items"], settings.mask_seen, same_domain)
        ties = tie_conditions(config["tie_order"], description.tied_targets, counts["test targets"])
        text = " ".join([_split_of(config), *ranking, *ties])
        targets.setdefault(text, []).append(target)
    if len(targets) == 1:
        return list(targets)
    return [f"{' and '.join(names)}: {text}" for text, names in targets.items()]


def _split_of(config: dict) -> str:
    if config["benchmark_filename"]:
        return "The files of the data set are already split."
    split = config["eval_args"]["split"]
    return LEAVE_ONE_OUT if split == {"LS": "valid_and_test"} else f"Split: {split}."


def no_transfer_note(study: Study) -> str:
    """Which targets start from a model that has been trained on them; empty if none."""
    targets = {
        outcome.target: None
        for outcome in study.outcomes
        if outcome.start == UNFROZEN
        and study.trained_on[outcome.config["pre_model_path"]] & set(_names(outcome.config))
    }
    if not targets:
        return ""
    return (
        f"The pre-trained model has been trained on the data of {', '.join(targets)}: its effect "
        f"there comes from more training on the same data, and says nothing about transfer."
    )


def _names(config: dict) -> list[str]:
    return config["domains"] or [config["dataset"]]


def unfinished_curves_note(blocks: list[Block]) -> str:
    """Which runs might have improved with more steps; empty if none."""
    runs = [
        f"{start} on {block.target}, {block.condition.text} (seed {seed})"
        for block in blocks
        for start, seed in block.unfinished
    ]
    if not runs:
        return ""
    return (
        f"Best at the last allowed epoch: {'; '.join(runs)}. More steps may change the effect of "
        f"pre-training; raise --epochs or --steps."
    )


def _notes(study: Study) -> dict[str, str]:
    seeds = len(study.settings.seeds)
    spread = "Mean and standard deviation over seeds."
    about = "over users and seeds (Welch's t; variances of users and of seeds are added)"
    if seeds == 1:
        spread = "One seed: the spread over seeds is unknown."
        about = "over users, for these trained models (bootstrap; paired randomization test)"
    return {
        "starts": f"{spread} scratch: random initial weights, all trained at one learning rate. frozen "
        f"and unfrozen: from the pre-trained model, with the sequence encoder fixed or trained "
        f"(with lora_rank, by low-rank changes). With validate_start (the default), each keeps its "
        f"initial weights if no epoch is better: its best epoch is then the start. zero-shot: the "
        f"pre-trained model without IDs and without training on the target; untrained: the same "
        f"with random weights; with neighbors: the scores of the neighbors are added to theirs. "
        f"neighbors: the items most similar to the last ones of the history, by one modality. "
        f"Differences from scratch are paired, with {LEVEL:.0%} intervals and p {about}; p (Holm) is "
        f"corrected for the starts of a training set. Intervals of baselines and of a start itself "
        f"are bootstraps over users ({RESAMPLES:,} resamples).",
        "pace": "When a start first reaches 95% and 100% of the best validation score that training "
        "from scratch reaches with the same seed and training set: optimizer steps and seconds "
        "(including validation), medians of the seeds that reach it. Pre-training itself is not "
        "counted. A score that is not reached before early stopping counts as never reached.",
        "searched": "Best validation score of each learning rate, with the first seed and the same "
        "number of steps; the bold one is used for all seeds.",
    }
