"""Files that serve a model without torch, compared with the model when they are written."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import torch

from recbole_mm.recommend.histories import Part, histories_of_dataset
from recbole_mm.recommend.ranking import Ranker
from recbole_mm.tools.counts import counted
from recbole_mm.tools.extras import extra_needed
from recbole_mm.transfer.bundle import ONNX_FOLDER

COMPARED = 256
"""Number of histories on which torch and onnxruntime are compared."""
TOP = 10


class ServingReport(NamedTuple):
    """How closely the files and the model agree.

    Attributes:
        folder: folder of the files.
        n_histories: number of histories that were compared.
        origin: kind of these histories, in words.
        difference: largest difference of two scores of the same item.
        same_lists: number of histories with the same ten best items in the same order.
        search: report on how well the index finds them; ``None`` without one.
        left_out: items that are not in the index and why, in words; empty if there are none.
    """

    folder: Path
    n_histories: int
    origin: str
    difference: float
    same_lists: int
    search: object | None = None
    left_out: str = ""

    def __str__(self) -> str:
        agreement = (
            f"{self.folder}: onnxruntime and torch differ by at most {self.difference:.1e}, and have "
            f"the same {TOP} best items for {self.same_lists} of {self.n_histories} {self.origin}"
        )
        if self.search is None:
            return agreement
        left_out = f"\nnot in the index: {self.left_out}" if self.left_out else ""
        return f"{agreement}\nindex: {self.search}{left_out}"


def write_serving_files(bundle, recommender, train=None, index: str | None = None) -> ServingReport:
    """Write the folder ``onnx`` of a bundle.

    Args:
        bundle: folder of the bundle.
        recommender: recommender of the bundle, on the CPU.
        train: training split whose users' histories are compared; ``None``, or a data set of single
            targets: random histories.
        index: ``exact`` or ``hnsw``; ``None``: no index.

    Raises:
        OSError: the files cannot be written.
        UserError: a package is missing, or torch cannot export the model.
    """
    with extra_needed("--onnx", "onnx"):
        from recbole_mm.recommend.onnx_files import (
            RECOMMENDABLE,
            ServedModel,
            describe,
            write_onnx,
        )

    folder = Path(bundle, ONNX_FOLDER)
    model, catalog = recommender.model, recommender.catalog
    write_onnx(folder, model, catalog)
    served = ServedModel(folder)
    has_users = train is not None and not train.has_histories
    part = _histories(train, catalog) if has_users else _random_histories(catalog)
    k = min(TOP, int(served.arrays[RECOMMENDABLE].sum()))
    latest = 0.0 if part.times is None else float(part.times.max(initial=0.0))
    ranker = Ranker(model, catalog, k, request_time=latest)
    batch = ranker.batch(part, np.arange(len(part.users)))
    arrays = {
        "item_seq": batch[model.ITEM_SEQ].numpy(),
        "length": batch[model.ITEM_SEQ_LEN].numpy(),
        "times": batch[model.TIME_SEQ].numpy(),
        "request_time": batch[model.TIME].numpy(),
    }
    best, score = served.rank(arrays, k)
    shown = served.arrays[RECOMMENDABLE]
    with torch.no_grad():
        expected = model.full_sort_predict(batch)[:, torch.from_numpy(shown)].numpy()
    found = None
    if index is not None:
        from recbole_mm.recommend.search_index import History, write_measured_index

        users, *added = served.encode(arrays)
        histories = (
            [History(*each) for each in zip(arrays["item_seq"], *added, strict=True)]
            if added
            else None
        )
        found = write_measured_index(folder, model, served, users, index, k, histories)
    describe(folder, {"model": type(model).__name__, "length": model.max_seq_length})
    return ServingReport(
        Path(ONNX_FOLDER),
        len(best),
        "histories" if has_users else "random histories",
        float(np.abs(score[:, shown] - expected).max()),
        int((best == ranker.rank(part).item_id).all(axis=1).sum()),
        found,
        _left_out(model, catalog),
    )


def _left_out(model, catalog) -> str:
    """How many items are never recommended, and why."""
    offered, unknown = catalog.offered[1:], model.never_recommended().cpu()[1:]
    numbers = {
        "without features or a trained ID": int((offered & unknown).sum()),
        "removed": int((~offered).sum()),
    }
    return ", ".join(f"{counted(n, 'item', 'items')} {why}" for why, n in numbers.items() if n)


def _histories(train, catalog) -> Part:
    """Whole histories of the first users of a data set."""
    histories = histories_of_dataset(train, catalog.tokens)
    return histories.part(0, min(COMPARED, histories.n_users))


def _random_histories(catalog) -> Part:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 30, COMPARED)
    items = random.integers(1, len(catalog.tokens), lengths.sum())
    times = np.cumsum(random.integers(0, 5 * 86_400, lengths.sum())).astype(np.float64)
    return Part(pl.Series([str(i) for i in range(COMPARED)]), lengths, items, times)
