"""What a person wants to know about a data set before training."""

import numpy as np

from recbole_mm.prepare.baselines import baselines
from recbole_mm.prepare.leakage import warnings
from recbole_mm.prepare.picture_sheet import picture_sheet
from recbole_mm.prepare.prepared import PreparedDataset, moment_of, same_time_share


def inspect(dataset: PreparedDataset) -> None:
    """Print figures, baselines and warnings, keep them in the card, and draw the sheet."""
    found, ranked, warned = figures(dataset), baselines(dataset), warnings(dataset)
    for name, value in found.items():
        print(f"{name:48} {_in_words(name, value)}")
    for name, metrics in ranked.items():
        print(f"{name:48} " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    for line in warned:
        print(f"warning: {line}")
    if dataset.modalities():
        picture_sheet(dataset, dataset.path("sheet.png"))
        print(f"sheet: {dataset.path('sheet.png')}")
    dataset.write_card(inspection={"figures": found, "baselines": ranked, "warnings": warned})


def _in_words(name: str, value) -> str:
    if name == "times":
        return " to ".join(moment.partition("T")[0] for moment in value)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def figures(dataset: PreparedDataset) -> dict:
    """Counts, lengths, times, repeats and the coverage of each modality."""
    table = dataset.in_time_order()
    lengths = table.group_by("user_id").len()["len"]
    counts = table.group_by("item_id").len()["len"]
    pairs = table.select("user_id", "item_id")
    found = {
        "users": len(lengths),
        "items": dataset.items["item_id"].n_unique(),
        "items without interactions": len(dataset.items) - len(counts),
        "interactions": len(table),
        "events per user (min, median, mean, max)": _spread(lengths.to_numpy()),
        "events per item (min, median, mean, max)": _spread(counts.to_numpy()),
        "density": round(len(table) / (len(lengths) * max(len(counts), 1)), 6),
        "repeated user-item pairs": len(table) - len(pairs.unique()),
    }
    if "timestamp" in table.columns:
        times = table["timestamp"].to_numpy()
        found["times"] = [moment_of(float(times.min())), moment_of(float(times.max()))]
        found["neighbours of the same time"] = same_time_share(table)
    for modality in dataset.modalities():
        _, present = dataset.features(modality)
        found[f"items with {modality}"] = round(float(present.mean()), 4)
    return found


def _spread(counts: np.ndarray) -> list[float]:
    mean = round(float(counts.mean()), 2)
    return [int(counts.min()), float(np.median(counts)), mean, int(counts.max())]
