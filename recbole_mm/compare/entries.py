r"""What is compared: models, each with its own settings.

An entry is written ``[NAME=]MODEL[@FILE.yaml][+KEY=VALUE...]``, several are separated by commas::

    MMM4Rec,Without ID=MMM4Rec+use_item_id=False,SASRec@mine.yaml,GRU4Rec@tuned,my_module:MyModel

``@tuned`` is the model's file under ``properties/tuned/``. The label omits a file that is named
like its model. ``A|B`` adds the scores of the entries ``A`` and ``B``, see
:mod:`~recbole_mm.compare.ensembles`. Lists of other tools are given as ``--lists NAME=FILE``, see
:mod:`~recbole_mm.compare.lists`.
"""

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import recbole.data.dataset

from recbole_mm.compare.ensembles import NO_LOGITS, OVER_SEEDS, SEPARATOR, Ensemble
from recbole_mm.compare.item_columns import columns_for
from recbole_mm.config.columns import ALL
from recbole_mm.config.errors import ConfigError, files_named
from recbole_mm.config.keys import keys_of_other_models
from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.config.models import (
    model_name,
    needs_item_columns,
    source_of,
)
from recbole_mm.config.plain import config_to_plain
from recbole_mm.config.property_files import properties_dir, read_layers
from recbole_mm.config.values import parse_overrides

TUNED = "tuned"
COMMON_KEYS = (
    "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "USER_ID_FIELD", "benchmark_filename",
    "data_path", "dataset", "domains", "eval_args", "exclude_users_of",
    "filter_inter_by_user_or_item", "held_out_domains", "held_out_items", "item_inter_num_interval", "metrics",
    "rm_dup_inter", "same_domain_candidates", "seed", "tie_order", "topk", "train_users", "user_inter_num_interval",
    "val_interval", "valid_metric",
)  # fmt: skip
"""Keys whose values must be the same for all compared entries."""


class Entry(NamedTuple):
    """One model with its settings.

    Attributes:
        label: name in tables and folders.
        model: name of one of our models, of the user's or of a sequential RecBole model.
        files: yaml files that override the property files.
        settings: keys that override the files.
    """

    label: str
    model: str
    files: list[str]
    settings: dict


class ForeignLists(NamedTuple):
    """Lists of another tool.

    Attributes:
        label: name in tables.
        path: path of the file.
    """

    label: str
    path: Path


def parse_entries(text: str) -> list[Entry]:
    """The models of ``--models``, see the module's docstring.

    Raises:
        ConfigError: no entry, a name that is not a sequential model (the message lists them) or a
            model with its own data set class, ``@tuned`` for a model without such a file, a
            setting without a value or one of :data:`COMMON_KEYS`, or two equal entries.
    """
    parts = [part for part in _parts(text) if not _is_ensemble(part)]
    entries = [_parse_entry(part) for part in parts]
    if not entries:
        raise ConfigError("--models is empty: write e.g. --models=MMM4Rec,SASRec")
    for entry in entries:
        _refuse_incomparable(entry)
    labels = [entry.label for entry in entries]
    if len(set(labels)) < len(labels):  # files of the same name in several folders
        entries = [_parse_entry(part, whole_path=True) for part in parts]
    _refuse_duplicates([entry.label for entry in entries])
    return entries


def parse_ensembles(text: str) -> list[Ensemble]:
    """The ensembles of ``--models``.

    Raises:
        ConfigError: an ensemble has fewer than two members, a member that is not listed as an
            entry, or one whose scores are not logits; see also :func:`parse_entries`.
    """
    models = [part for part in _parts(text) if not _is_ensemble(part)]
    entries = parse_entries(text)
    label_of = {}
    for part, entry in zip(models, entries, strict=True):
        label_of[_without_spaces(part)] = label_of[_without_spaces(entry.label)] = entry.label
    ensembles = [_parse_ensemble(part, label_of) for part in _parts(text) if _is_ensemble(part)]
    _refuse_sums(ensembles, [entry.label for entry in entries if entry.model in NO_LOGITS])
    _refuse_duplicates([ensemble.label for ensemble in ensembles])
    return ensembles


def parse_lists(options: list[str]) -> list[ForeignLists]:
    """Read the values of ``--lists``.

    Raises:
        ConfigError: a value is not of the form ``NAME=FILE``, or two have the same name.
    """
    lists: list[ForeignLists] = []
    for option in options:
        name, separator, path = option.partition("=")
        if not (name.strip() and separator and path.strip()):
            raise ConfigError(f"--lists={option}: write NAME=FILE, e.g. --lists Mine=top10.csv")
        if any(name.strip() == other.label for other in lists):
            raise ConfigError(f"--lists: two files are named {name.strip()}")
        lists.append(ForeignLists(name.strip(), Path(path.strip())))
    return lists


def _parts(text: str) -> list[str]:
    return [part.strip() for part in _split(text) if part.strip()]


def _is_ensemble(part: str) -> bool:
    return len(_split(part, SEPARATOR)) > 1


def _parse_ensemble(text: str, label_of: dict[str, str]) -> Ensemble:
    name, members = _named_ensemble(text, label_of)
    over_seeds = OVER_SEEDS in members and OVER_SEEDS not in label_of
    members = [member for member in members if not over_seeds or member != OVER_SEEDS]
    for member in members:
        if member not in label_of:
            raise ConfigError(
                f"--models: {text} adds the scores of {member or 'nothing'}, which is not an entry: "
                f"list every member as an entry too"
            )
    labels = tuple(label_of[member] for member in members)
    if len(set(labels)) < len(labels):
        raise ConfigError(f"--models: {text}: the members of an ensemble must differ")
    shown = (*labels, OVER_SEEDS) if over_seeds else labels
    return Ensemble(name or SEPARATOR.join(shown), labels, over_seeds)


def _refuse_sums(ensembles: list[Ensemble], sums: list[str]) -> None:
    for label, members, _ in ensembles:
        for member in set(members) & set(sums):
            raise ConfigError(
                f"--models: {label} adds the scores of {member}, which are counts or sums, not "
                f"logits, and would outweigh the others or vanish: remove it; "
                f"TransitionGraph can be added"
            )


def _named_ensemble(text: str, label_of: dict[str, str]) -> tuple[str | None, list[str]]:
    """The name that the user gives to an ensemble, and its members."""
    name, rest = _named(text)
    first = _without_spaces(_split(text, SEPARATOR)[0])
    if first in label_of:  # NAME=MODEL|..., where NAME=MODEL is an entry
        name, rest = None, text
    return name, [_without_spaces(part) for part in _split(rest, SEPARATOR)]


def _refuse_duplicates(labels: list[str]) -> None:
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ConfigError(f"--models: duplicate entries: {', '.join(repeated)}")


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def config_of(entry: Entry, dataset: str, overlay: dict, overrides: dict) -> RunConfig:
    """The configuration of an entry.

    Args:
        entry: the model and its settings.
        dataset: name of the data set.
        overlay: the protocol's keys.
        overrides: keys for all entries; an entry's own settings take precedence over them, its
            files only for keys outside :data:`COMMON_KEYS`.

    Raises:
        ConfigError: an entry's file is for another model; see also
            :func:`~recbole_mm.config.load.load_config`.
    """
    load = partial(
        load_config,
        entry.model,
        dataset,
        overrides=entry.settings,
        dict_name="command line",
        overrides_name=f"--models: entry {entry.label}",
    )
    given = {**overlay, **overrides}
    layers = given
    if entry.files:
        common = config_to_plain(load((), layers))
        layers = {**{key: common[key] for key in COMMON_KEYS if key in common}, **layers}
        del layers["dataset"]
        _refuse_another_model(entry)
    if needs_item_columns(entry.model) and "selected_features" not in {**layers, **entry.settings}:
        config = load(entry.files, layers)
        loaded = (config["load_col"] or {"item": ALL}).get("item", [])
        chosen = loaded != ALL and set(config["selected_features"]) <= set(loaded)
        if not chosen:  # the user has not named columns
            layers = {**layers, **columns_for(entry.model, config), **given}
    return load(entry.files, layers)


def _parse_entry(text: str, whole_path: bool = False) -> Entry:
    name, text = _named(text)
    head, *settings = re.split(r"\+(?=[A-Za-z_]\w*=)", text)
    model, _, file = head.partition("@")
    model = model_name(model)
    if file == TUNED:
        file = _tuned_file(model)
    label = "+".join([model, *settings])
    if file and (whole_path or Path(file).stem != model):
        label = f"{label} ({file if whole_path else Path(file).stem})"
    return Entry(
        name or label, model, [file] if file else [], parse_overrides(f"--{s}" for s in settings)
    )


def _named(text: str) -> tuple[str | None, str]:
    """The name that the user gives to an entry, ``None`` if there is none, and the rest."""
    name, separator, rest = text.partition("=")
    if not separator or any(c in name for c in "@+"):
        return None, text
    return name.strip(), rest.strip()


def _tuned_file(model: str) -> str:
    folder = properties_dir() / TUNED
    if not (folder / f"{model}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ConfigError(f"--models: {model}@{TUNED}: only {known} have tuned settings")
    return str(folder / f"{model}.yaml")


def _refuse_another_model(entry: Entry) -> None:
    model = read_layers(entry.files).get("model", entry.model)
    with files_named({str(entry.files[0]): {}} if entry.files else {}):
        same = model_name(model) == entry.model
    if not same:
        raise ConfigError(
            f"--models: {entry.files[0]} holds settings for {model}, not for {entry.model}: "
            f"write {model}@{entry.files[0]}, or remove `model:` from the file"
        )


def _refuse_incomparable(entry: Entry) -> None:
    for key in ("model", "config_files"):
        if key in entry.settings:
            raise ConfigError(f"--models: {entry.label} sets {key}: write MODEL@FILE.yaml instead")
    unread = keys_of_other_models(entry.model, entry.settings)
    if unread:
        raise ConfigError(
            f"--models: {entry.label} sets {', '.join(unread)}, which {entry.model} does not read"
        )
    common = sorted(set(entry.settings) & set(COMMON_KEYS))
    if common:
        raise ConfigError(
            f"--models: {entry.label} sets {', '.join(common)}, which must be the same for all "
            f"entries: give it as an option of the command"
        )
    own_class = f"{entry.model}Dataset"
    if source_of(entry.model) is None and hasattr(recbole.data.dataset, own_class):
        raise ConfigError(
            f"--models: {entry.model} has its own data set class ({own_class}), so its split and "
            f"its targets differ from those of the other models: remove it"
        )


def _split(text: str, separator: str = ",") -> list[str]:
    """Split outside brackets."""
    return re.split(re.escape(separator) + r"(?![^\[\](){}]*[\])}])", str(text))
