"""What may leak, or blur, the answer of a leave-one-out test."""

import numpy as np
import polars as pl

from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.counts import counted

COPIES = {
    "text": "the same product under two tokens, or products with the same text",
    "image": "the same product under two tokens, or a placeholder picture",
}
"""Possible causes of equal vectors, by modality."""


def warnings(dataset: PreparedDataset) -> list[str]:
    """One line for each thing that may make a leave-one-out test easier or harder than intended."""
    table = dataset.in_time_order().with_row_index("row")  # rows may be equal
    last = table.group_by("user_id", maintain_order=True).tail(1)
    before = table.join(last, on="row", how="anti")
    found = [*_targets(last, before), *_times(last, before), *_twins(before)]
    for modality in dataset.modalities():
        found += _features(dataset, modality)
    return found


def _targets(last: pl.DataFrame, before: pl.DataFrame):
    seen = last.join(before, on=["user_id", "item_id"], how="semi")
    if share := _share(len(seen), len(last)):
        yield (
            f"{share} of the test items are in the same user's history: models "
            f"that repeat are rewarded (prepare with --repeats=first)."
        )
    unseen = last.join(before, on="item_id", how="anti")
    if share := _share(len(unseen), len(last)):
        yield (
            f"{share} of the test items are not in the training events: only "
            f"features can find them."
        )


def _times(last: pl.DataFrame, before: pl.DataFrame):
    if "timestamp" not in last.columns:
        yield "no times: the order of the file is taken as the order of events."
        return
    previous = before.group_by("user_id").agg(pl.col("timestamp").max().alias("previous"))
    tied = last.join(previous, on="user_id").filter(pl.col("timestamp") == pl.col("previous"))
    if share := _share(len(tied), len(last)):
        yield (
            f"{share} of the test events have the same time as the event before: "
            f"which of them is the last depends on the order of the file."
        )
    later = before.select(pl.col("timestamp") > last["timestamp"].median()).to_series()
    if share := _share(int(later.sum()), len(later)):
        yield (
            f"{share} of the training events are later than half of the test events: "
            f"leave-one-out lets models see the future of other users."
        )


def _twins(before: pl.DataFrame):
    histories = before.group_by("user_id", maintain_order=True).agg("item_id")
    twins = len(histories) - histories["item_id"].list.join("\n").n_unique()
    if twins:
        yield (
            f"{counted(twins, 'user has', 'users have')} the same history as another user, event for event."
        )


def _features(dataset: PreparedDataset, modality: str):
    values, present = dataset.features(modality)
    vectors = values[present]
    copies = len(vectors) - len(np.unique(vectors, axis=0))
    if copies:
        why = COPIES.get(modality, "the same product under two tokens, or a placeholder")
        yield (
            f"{counted(copies, 'item has', 'items have')} the {modality} vector of another item "
            f"({_share(copies, len(vectors)) or 'under 0.1%'} of those with {modality}): {why}."
        )
    if len(vectors) < 0.5 * len(present):
        yield f"only {len(vectors) / len(present):.1%} of items have {modality}."


def _share(part: int, whole: int) -> str:
    """A share in percent; empty if it rounds to zero, which needs no warning."""
    return f"{part / whole:.1%}" if part >= 0.0005 * whole > 0 else ""
