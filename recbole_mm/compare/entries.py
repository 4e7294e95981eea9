r"""What is compared: models, each with the settings that are its own.

An entry is written ``MODEL[@FILE.yaml][+KEY=VALUE...]``, several with commas between them::

    MMM4Rec,MMM4Rec+use_item_id=False,SASRec@mine.yaml,GRU4Rec@tuned

``@tuned`` is the model's file under ``properties/tuned/``. A file that is called as its model stays
out of the label.
"""

import re
from pathlib import Path
from typing import NamedTuple

import recbole.data.dataset

from recbole_mm.compare.item_columns import columns_for
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.keys import keys_of_other_models
from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.config.models import MODELS, needs_item_columns, recbole_models
from recbole_mm.config.plain import config_to_plain
from recbole_mm.config.property_files import properties_dir, read_layers
from recbole_mm.config.values import parse_overrides
from recbole_mm.tools.names import nearest

TUNED = "tuned"
COMMON_KEYS = (
    "ITEM_ID_FIELD", "RATING_FIELD", "TIME_FIELD", "USER_ID_FIELD", "benchmark_filename",
    "data_path", "dataset", "eval_args", "filter_inter_by_user_or_item", "held_out_items",
    "item_inter_num_interval", "metrics", "rm_dup_inter", "seed", "topk",
    "user_inter_num_interval", "val_interval", "valid_metric",
)  # fmt: skip
"""What entries must have in common to be compared."""


class Entry(NamedTuple):
    """One model with its settings.

    Attributes:
        label: its name in tables and folders.
        model: a model of ours or a sequential model of RecBole.
        files: yaml files over the property files.
        settings: keys over these.
    """

    label: str
    model: str
    files: list[str]
    settings: dict


def parse_entries(text: str) -> list[Entry]:
    """Read ``--models``, see the module's docstring.

    Raises:
        ConfigError: no entry, a name that is no sequential model (all of them are listed) or whose
            data set is one of its own, ``@tuned`` for a model without such a file, a setting
            without a value or of :data:`COMMON_KEYS`, or two entries that are the same.
    """
    parts = [part.strip() for part in _split(text) if part.strip()]
    entries = [_parse_entry(part) for part in parts]
    if not entries:
        raise ConfigError("--models names no model: write e.g. --models=MMM4Rec,SASRec")
    known = {*MODELS, *recbole_models("sequential")}
    unknown = sorted({entry.model for entry in entries} - known)
    if unknown:
        near = [repr(other) for name in unknown for other in nearest(name, known)]
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        raise ConfigError(
            f"--models: {', '.join(map(repr, unknown))} unknown{hint}; known are "
            f"{', '.join(MODELS)} and RecBole's {', '.join(recbole_models('sequential'))}"
        )
    for entry in entries:
        _refuse_incomparable(entry)
    labels = [entry.label for entry in entries]
    if len(set(labels)) < len(labels):  # files of one name in several folders
        entries = [_parse_entry(part, whole_path=True) for part in parts]
        labels = [entry.label for entry in entries]
    repeated = sorted({label for label in labels if labels.count(label) > 1})
    if repeated:
        raise ConfigError(f"--models: {', '.join(repeated)} stand more than once")
    return entries


def config_of(entry: Entry, dataset: str, overlay: dict, overrides: dict) -> RunConfig:
    """The configuration of an entry.

    Args:
        entry: what runs.
        dataset: on which data set.
        overlay: the protocol's keys.
        overrides: keys for all entries; an entry's own settings win, its files only for keys
            that are not :data:`COMMON_KEYS`.

    Raises:
        ConfigError: an entry's file is of another model; see also
            :func:`~recbole_mm.config.load.load_config`.
    """
    given = {**overlay, **overrides, **entry.settings}
    layers = given
    if entry.files:
        common = config_to_plain(load_config(entry.model, dataset, (), layers))
        layers = {**{key: common[key] for key in COMMON_KEYS if key in common}, **layers}
        del layers["dataset"]
        _refuse_another_model(entry)
    if needs_item_columns(entry.model) and "selected_features" not in layers:
        config = load_config(entry.model, dataset, entry.files, layers)
        loaded = (config["load_col"] or {}).get("item", [])
        if not set(config["selected_features"]) <= set(loaded):  # nobody has named columns
            layers = {**layers, **columns_for(entry.model, config), **given}
    return load_config(entry.model, dataset, entry.files, layers)


def _parse_entry(text: str, whole_path: bool = False) -> Entry:
    head, *settings = re.split(r"\+(?=[A-Za-z_]\w*=)", text)
    model, _, file = head.partition("@")
    if file == TUNED:
        file = _tuned_file(model)
    label = "+".join([model, *settings])
    if file and (whole_path or Path(file).stem != model):
        label = f"{label} ({file if whole_path else Path(file).stem})"
    return Entry(label, model, [file] if file else [], parse_overrides(f"--{s}" for s in settings))


def _tuned_file(model: str) -> str:
    folder = properties_dir() / TUNED
    if not (folder / f"{model}.yaml").is_file():
        known = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
        raise ConfigError(f"--models: {model}@{TUNED}: there are tuned settings for {known} only")
    return str(folder / f"{model}.yaml")


def _refuse_another_model(entry: Entry) -> None:
    model = read_layers(entry.files).get("model", entry.model)
    if model != entry.model:
        raise ConfigError(
            f"--models: {entry.files[0]} holds settings of {model}, not of {entry.model}: write "
            f"{model}@{entry.files[0]}, or take `model:` out of the file"
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
            f"--models: {entry.label} sets {', '.join(common)}, which has to be the same for all "
            f"entries: give it to the whole command"
        )
    own_data = f"{entry.model}Dataset"
    if entry.model not in MODELS and hasattr(recbole.data.dataset, own_data):
        raise ConfigError(
            f"--models: {entry.model} has a data set class of its own ({own_data}), whose split "
            f"and targets are not those of the others: leave it out"
        )


def _split(text: str) -> list[str]:
    """At commas outside brackets."""
    return re.split(r",(?![^\[\](){}]*[\])}])", str(text))
