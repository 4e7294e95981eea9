"""The vectors of one modality, and the files that they become."""

import json
from typing import NamedTuple

import numpy as np

from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.prepare.inputs import today
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.counts import counted
from recbole_mm.tools.files import write_text


class Vectors(NamedTuple):
    """Vectors of some of a data set's items.

    Attributes:
        rows: ``(n,)`` rows of these items in ``.item``.
        values: ``(n, F)`` vectors.
        problems: row of each item that could not be read, and why.
        facts: how the vectors were made, JSON-able.
        space: arrays that put further items into the same space, see
            :func:`~recbole_mm.data.feature_files.write_item_features`.
    """

    rows: np.ndarray
    values: np.ndarray
    problems: list[tuple[int, str]]
    facts: dict
    space: dict[str, np.ndarray] | None = None


def write_modality(dataset: PreparedDataset, modality: str, found: Vectors) -> None:
    """Write the feature file, the list of problems and the card, and report what they hold."""
    items = dataset.items["item_id"].to_numpy()
    n_found, width = found.values.shape
    info = {
        **found.facts,
        "dimension": int(width),
        "date": today(),
        "items": len(items),
        "coverage": n_found / len(items),
        "broken": len(found.problems),
    }
    path = feature_path(dataset.folder, dataset.name, modality)
    write_item_features(path, items[found.rows], found.values, info, found.space)
    listing = dataset.path(f"{modality}.problems.jsonl")
    listing.unlink(missing_ok=True)
    if found.problems:
        lines = (json.dumps({"item": str(items[row]), "why": why}) for row, why in found.problems)
        write_text(listing, "\n".join(lines) + "\n")
        print(
            f"{dataset.name}: {len(found.problems)} broken or missing, masked; listed in {listing}"
        )
    dataset.write_card()
    cut = f", {counted(found.facts['cut'], 'text', 'texts')} cut" if found.facts.get("cut") else ""
    print(
        f"{dataset.name}: {modality} of {n_found} of {len(items)} items ({n_found / len(items):.1%}), "
        f"{width} wide, by {found.facts['encoder']}{_way(found.facts)}{cut}"
    )


def _way(facts: dict) -> str:
    """How an encoder was run, in words; empty for vectors of another origin."""
    if "loader" not in facts:
        return ""
    prompt = f", prompt {facts['prompt']!r}" if "prompt" in facts else ""
    return f" ({facts['loader']}, pooling {facts['pooling']}{prompt})"
