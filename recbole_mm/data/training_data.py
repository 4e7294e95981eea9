"""Records of the data that a model is trained on: names, domains, excluded users, and terms.

A record is plain data in checkpoints and bundles. A list of records starts with the first
pre-training.
"""

from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_mm.data.cards import CardError, read_card
from recbole_mm.data.domains import domains_of, excluded_data_sets
from recbole_mm.tools.json_files import fits

Record = dict[str, Any]

KINDS: dict[str, Any] = {
    "name": str | None,
    "stage": str | None,
    "domains": list[str],
    "without_users_of": list[str],
    "terms": dict[str, str | None],
}
"""Types of the entries of a record: the data set, ``train_stage``, its domains if it is a mixture,
data sets whose users are excluded, and the terms of the data set or of each domain, from its
card."""

UNKNOWN: Record = {
    "name": None, "stage": "pretrain", "domains": [], "without_users_of": [], "terms": {},
}  # fmt: skip
"""A pre-training on unknown data."""


def training_data(config) -> Record:
    """The record of the data set of a configuration, with the terms in the cards next to its
    files."""
    root, domains = Path(config["data_path"]).parent, domains_of(config)
    return {
        "name": str(config["dataset"]),
        "stage": config["train_stage"],
        "domains": list(domains),
        "without_users_of": list(excluded_data_sets(config)),
        "terms": {name: _terms(root, name) for name in domains or [str(config["dataset"])]},
    }


def recorded(records) -> list[Record]:
    """The records that a checkpoint or a bundle holds, or :data:`UNKNOWN`."""
    return well_formed(records) or [UNKNOWN]


def well_formed(records) -> list[Record]:
    """The records if all are valid; an empty list otherwise."""
    if not isinstance(records, list) or not all(map(_is_record, records)):
        return []
    return [{key: record[key] for key in KINDS} for record in records]


def _is_record(record) -> bool:
    if not isinstance(record, dict) or not record.keys() >= KINDS.keys():
        return False
    fitting = all(fits(record[key], kind) for key, kind in KINDS.items())
    return fitting and all(isinstance(name, str) for name in record["terms"])


def _terms(root: Path, name: str) -> str | None:
    try:
        return read_card(root / name / f"{name}.card.json").get("terms")
    except CardError as error:
        getLogger().warning(f"the terms of {name} are not recorded with the model: {error}")
        return None
