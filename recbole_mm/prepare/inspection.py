"""Look at a prepared data set: its figures, two baselines, warnings, and a sheet of pictures.

    recbole-mm inspect Toys

The figures go to the screen and into NAME.card.json, the sheet to NAME.sheet.png: some items,
each with its nearest neighbours by text and by picture features.
"""

import argparse
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image, ImageDraw, ImageFont

from recbole_mm.data.extractor import on_white
from recbole_mm.data.features import feature_path, read_item_features
from recbole_mm.prepare.prepared import PreparedDataset, same_time_share
from recbole_mm.tools.files import whole_or_not
from recbole_mm.tools.pictures import PICTURE_ERRORS, open_picture

TEST_USERS = 20_000
CHUNK = 512
TILE, CAPTION = 132, 44
SHEET_ROWS, NEIGHBOURS = 10, 3


def figures(dataset: PreparedDataset) -> dict:
    """Counts, lengths, times, repeats and the coverage of each modality."""
    table = _in_time_order(dataset.interactions)
    lengths = table.group_by("user_id").len()["len"]
    counts = table.group_by("item_id").len()["len"]
    pairs = table.select("user_id", "item_id")
    found = {
        "users": len(lengths),
        "items": dataset.items["item_id"].n_unique(),
        "items without interactions": len(dataset.items) - len(counts),
        "interactions": len(table),
        "events per user (least, median, mean, most)": _spread(lengths),
        "events per item (least, median, mean, most)": _spread(counts),
        "density": round(len(table) / (len(lengths) * max(len(counts), 1)), 6),
        "repeated user-item pairs": len(table) - len(pairs.unique()),
    }
    if "timestamp" in table.columns:
        moments = [table["timestamp"].min(), table["timestamp"].max()]
        found["times"] = [datetime.fromtimestamp(m, timezone.utc).isoformat() for m in moments]
        found["neighbours of the same time"] = same_time_share(table)
    for modality in dataset.modalities():
        present = _features(dataset, modality).present[1:]
        found[f"items with {modality}"] = round(present.float().mean().item(), 4)
    return found


def baselines(dataset: PreparedDataset) -> dict[str, dict[str, float]]:
    """Recall@10 and NDCG@10 of each user's last event, ranked among all items.

    By popularity (of all events but each user's last), and by the cosine of features to the last
    event before it, per modality (which is itself left out there). Ties count half.
    """
    row_of = {token: row for row, token in enumerate(dataset.items["item_id"], start=1)}
    history = _in_time_order(dataset.interactions).group_by("user_id", maintain_order=True)
    events = history.agg("item_id").filter(pl.col("item_id").list.len() >= 2)["item_id"]
    rows = [[row_of[token] for token in user if token in row_of] for user in events]
    rows = [user for user in rows if len(user) >= 2]
    if not rows:
        return {}
    counts = np.bincount(np.concatenate([user[:-1] for user in rows]), minlength=len(row_of) + 1)
    step = -(-len(rows) // TEST_USERS)
    last, target = np.array([user[-2:] for user in rows[::step]]).T
    scores = {"popularity": lambda at: np.broadcast_to(counts[1:], (len(at), len(row_of)))}
    for modality in dataset.modalities():
        vectors = _unit_rows(_features(dataset, modality))
        scores[f"nearest by {modality}"] = lambda at, v=vectors: _others(v, last[at])
    found = {}
    for name, score in scores.items():
        ranks = [
            _rank(score(np.arange(start, min(start + CHUNK, len(last)))), target[start:][:CHUNK])
            for start in range(0, len(last), CHUNK)
        ]
        rank = np.concatenate(ranks)
        hit = rank < 10
        gain = np.where(hit, 1 / np.log2(rank + 2), 0)
        found[name] = {"Recall@10": round(hit.mean(), 4), "NDCG@10": round(gain.mean(), 4)}
    return {name: {k: float(v) for k, v in one.items()} for name, one in found.items()}


def warnings(dataset: PreparedDataset) -> list[str]:
    """What may leak, or blur, the answer of a leave-one-out test."""
    table = _in_time_order(dataset.interactions).with_row_index("row")  # rows may be equal
    last = table.group_by("user_id", maintain_order=True).tail(1)
    before = table.join(last, on="row", how="anti")
    found = []

    seen = last.join(before, on=["user_id", "item_id"], how="semi")
    if len(seen):
        found.append(
            f"{len(seen) / len(last):.1%} of the test items stand in the same user's history: "
            f"models that repeat are rewarded (prepare with --repeats=first)."
        )
    unseen = last.join(before, on="item_id", how="anti")
    if len(unseen):
        found.append(
            f"{len(unseen) / len(last):.1%} of the test items occur nowhere in training: only "
            f"features can find them."
        )
    if "timestamp" in table.columns:
        previous = before.group_by("user_id").agg(pl.col("timestamp").max().alias("previous"))
        tied = last.join(previous, on="user_id").filter(pl.col("timestamp") == pl.col("previous"))
        if len(tied):
            found.append(
                f"{len(tied) / len(last):.1%} of the test events have the time of the event "
                f"before: which of them is 'last' is the order of the file."
            )
        later = before["timestamp"] > last["timestamp"].median()
        if later.any():
            found.append(
                f"{later.mean():.1%} of the training events are later than half of the test "
                f"events: leave-one-out lets models see the future of other users."
            )
    else:
        found.append("no times: the order of the file is taken for the order of events.")
    histories = before.group_by("user_id", maintain_order=True).agg("item_id")
    twins = len(histories) - histories["item_id"].list.join("\n").n_unique()
    if twins:
        found.append(f"{twins} users have the history of another user, event for event.")
    for modality in dataset.modalities():
        features = _features(dataset, modality)
        vectors = features.values[features.present].numpy()
        copies = len(vectors) - len(np.unique(vectors, axis=0))
        if copies:
            found.append(
                f"{copies} items ({copies / len(vectors):.1%}) share their {modality} vector with "
                f"another: the same thing under two numbers, or a stand-in picture."
            )
        if len(vectors) < 0.5 * len(dataset.items):
            found.append(f"only {len(vectors) / len(dataset.items):.1%} of items have {modality}.")
    return found


def picture_sheet(dataset: PreparedDataset, path) -> None:
    """A PNG: one row per sampled item, then its nearest by text and by picture, with titles."""
    pictures = dataset.pictures()
    titles = dataset.texts(("title",))
    candidates = [row for row, picture in enumerate(pictures) if picture] or range(len(titles))
    picks = np.linspace(0, len(candidates) - 1, min(SHEET_ROWS, len(candidates))).astype(int)
    sample = [candidates[pick] for pick in dict.fromkeys(picks.tolist())]
    modalities = [name for name in dataset.modalities() if name in ("text", "image")]
    columns = [("an item", [[row] for row in sample])]
    for modality in modalities:
        vectors = _unit_rows(_features(dataset, modality))[1:]
        columns.append((f"nearest by {modality}", [_nearest(vectors, row) for row in sample]))

    font = ImageFont.load_default(10)
    width = sum(len(rows[0]) if rows else 0 for _, rows in columns) * TILE
    sheet = Image.new("RGB", (max(width, TILE), 18 + len(sample) * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    left = 0
    for heading, rows in columns:
        draw.text((left + 4, 3), heading, fill="black", font=font)
        for line, items in enumerate(rows):
            top = 18 + line * (TILE + CAPTION)
            for place, item in enumerate(items):
                corner = (left + place * TILE, top)
                _draw_item(sheet, draw, corner, pictures[item], titles[item], font)
        left += max((len(items) for items in rows), default=1) * TILE
        draw.line([left, 0, left, sheet.height], fill="#999999")
    with whole_or_not(path) as temporary:
        sheet.save(temporary, "PNG")


def _draw_item(sheet, draw, corner, picture, title, font) -> None:
    x, y = corner
    try:
        with open_picture(picture) as opened:
            thumbnail = on_white(opened)
            thumbnail.thumbnail((TILE - 8, TILE - 8))
        free = (TILE - thumbnail.width, TILE - thumbnail.height)
        sheet.paste(thumbnail, (x + free[0] // 2, y + free[1] // 2))
    except (AttributeError, *PICTURE_ERRORS):
        draw.rectangle([x + 4, y + 4, x + TILE - 4, y + TILE - 4], fill="#eeeeee")
        draw.text((x + 36, y + TILE // 2), "no picture", fill="#888888", font=font)
    lines = textwrap.wrap(title or "(no title)", 23)[:3]
    draw.multiline_text((x + 4, y + TILE), "\n".join(lines), fill="black", font=font, spacing=2)


def _nearest(vectors: np.ndarray, row: int) -> list[int]:
    similarity = vectors @ vectors[row]
    similarity[row] = -np.inf
    return np.argsort(-similarity, kind="stable")[:NEIGHBOURS].tolist()


def _others(vectors: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Cosine of some items to all from id 1, themselves at the bottom."""
    similarity = vectors[rows] @ vectors[1:].T
    similarity[np.arange(len(rows)), rows - 1] = -2
    return similarity


def _rank(scores: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Items above the target (id from 1), and half of those level with it."""
    own = np.take_along_axis(scores, target[:, None] - 1, axis=1)
    return (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def _features(dataset: PreparedDataset, modality: str):
    tokens = ["[PAD]", *dataset.items["item_id"]]
    return read_item_features(feature_path(dataset.folder, dataset.name, modality), tokens)


def _unit_rows(features) -> np.ndarray:
    vectors = features.values.float().numpy()
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _in_time_order(table: pl.DataFrame) -> pl.DataFrame:
    order = ["user_id", "timestamp"] if "timestamp" in table.columns else ["user_id"]
    return table.sort(order, maintain_order=True)


def _spread(values: pl.Series) -> list[float]:
    return [values.min(), values.median(), round(values.mean(), 2), values.max()]


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="prepared data set")
    parser.add_argument("--output", type=Path, default=Path("dataset"), help="[dataset]")
    args = parser.parse_args(arguments)
    dataset = PreparedDataset(args.output, args.name)
    found, ranked, warned = figures(dataset), baselines(dataset), warnings(dataset)
    for name, value in found.items():
        print(f"{name:48} {value}")
    for name, metrics in ranked.items():
        print(f"{name:48} " + ", ".join(f"{k} {v:.4f}" for k, v in metrics.items()))
    for line in warned:
        print(f"warning: {line}")
    if dataset.modalities():
        picture_sheet(dataset, dataset.path("sheet.png"))
        print(f"sheet: {dataset.path('sheet.png')}")
    dataset.write_card(inspection={"figures": found, "baselines": ranked, "warnings": warned})
