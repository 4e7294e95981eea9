"""The pairs that an encoder is tuned on: the text of the last item or items, and the next
item's."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.run.splits import load_dataset
from recbole_mm.tools.counts import counted
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_parts

SEPARATOR = "\n"


class TrainingPart(NamedTuple):
    """The training part of a data set, and the texts of its items.

    Attributes:
        dataset: events of the training part.
        texts: texts by item id, ``(n_items,)``; empty for an item without one.
        split: record of the split, see :func:`~recbole_mm.data.seen_split.split_record`.
        texts_hash: hash of the items and their texts.
    """

    dataset: MultiModalDataset
    texts: list[str]
    split: dict
    texts_hash: str


class Pairs(NamedTuple):
    """Pairs of items, as ids.

    Attributes:
        before: ``(n, window)`` preceding items, the latest first; 0 where a window has fewer items.
        after: ``(n,)`` next items.
    """

    before: np.ndarray
    after: np.ndarray


def load_training_part(config, text_fields: list[str]) -> TrainingPart:
    """Load and split a data set, and keep the training part.

    Raises:
        UserError: the data set does not exist, cannot be used, or has no texts.
    """
    dataset = load_dataset(config)
    if dataset.domains:
        raise UserError(
            f"tune-encoder {config['dataset']}: it is a mixture; tune on one data set at a time"
        )
    train = dataset.build()[0]
    texts = _texts(config, train, text_fields)
    named = zip(train.field2id_token[train.iid_field], texts, strict=True)
    texts_hash = sha256_of_parts(f"{item}\0{text}\0" for item, text in named)
    return TrainingPart(train, texts, train.split_record(), texts_hash)


def _texts(config, train, fields: list[str]) -> list[str]:
    prepared = PreparedDataset(
        Path(config["data_path"]).parent, config["dataset"], config.final_config_dict
    )
    of_item = dict(zip(prepared.items["item_id"], prepared.texts(fields), strict=True))
    texts = [of_item.get(str(token)) or "" for token in train.field2id_token[train.iid_field]]
    if not any(texts):
        raise UserError(
            f"{prepared.path('item')}: no item has a text in the columns {', '.join(fields)}; name "
            f"others with --text-fields"
        )
    return texts


def next_item_pairs(
    part: TrainingPart, window: int, max_pairs: int | None, random: np.random.Generator
) -> Pairs:
    """Pairs of neighbors in the training histories, each target of the training part at most once.

    Items without a text are skipped, and so are pairs whose next item is among the items before it.

    Args:
        part: training part.
        window: maximum number of items before the next one; each pair draws a number from 1 to
            this.
        max_pairs: number of pairs to draw; ``None``: all.
        random: generator of the draws.

    Raises:
        UserError: there are fewer than two pairs.
    """
    before, after = part.dataset.next_items(window)
    has_text = np.array([bool(text) for text in part.texts])
    drawn = random.integers(1, window + 1, size=len(after))
    before = np.where(np.arange(window) < drawn[:, None], before, 0)
    before = np.where(has_text[before], before, 0)
    usable = has_text[after] & before.any(axis=1) & (before != after[:, None]).all(axis=1)
    rows = np.flatnonzero(usable)
    if max_pairs is not None and max_pairs < len(rows):
        rows = np.sort(random.choice(rows, max_pairs, replace=False))
    if len(rows) < 2:
        raise UserError(
            f"data set {part.split['dataset']!r}: its training part has {counted(len(rows), 'pair', 'pairs')} of "
            f"different items with texts, but the loss needs two or more"
        )
    return Pairs(before[rows], after[rows])


class PairTexts:
    """Turns rows of pairs into texts on demand.

    Args:
        texts: texts by item id.
    """

    def __init__(self, texts: list[str]):
        self.texts = texts

    def __call__(self, rows: dict[str, list]) -> dict[str, list[str]]:
        joined = [SEPARATOR.join(self.texts[i] for i in items if i) for items in rows["before"]]
        return {"anchor": joined, "positive": [self.texts[item] for item in rows["after"]]}
