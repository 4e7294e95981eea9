"""Why items are recommended: what each modality and the ID add to a score, and which item of the
history is nearest by each modality."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F

from recbole_mm.recommend.catalog import CatalogError, requested_ids
from recbole_mm.recommend.histories import Part
from recbole_mm.recommend.query import unpaired
from recbole_mm.recommend.ranking import Ranker
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.request import SOURCES

REPEATS = "repeats"
BIAS = "bias"
NEIGHBORS = "{} neighbors"


class Nearest(NamedTuple):
    """The item of a history that is nearest to a recommended one.

    Attributes:
        item: external id.
        cosine: cosine of their features.
    """

    item: str
    cosine: float


class Reason(NamedTuple):
    """A recommended item, and why.

    Attributes:
        item: external id.
        title: title of the item, or ``None``.
        score: score of the model, or the number of interactions of a popular item in the whole data
            set.
        source: ``model``, or ``popular`` if the history is empty.
        parts: contributions to the score from each modality, the ID (``id``), the neighbors of the
            history by a modality (``text neighbors``), the learned propensity to repeat items
            (``repeats``), and modalities that the item lacks (``bias``); empty for a popular item
            and for a model that does not report them.
        shares: size of each part as a share of the sum of their sizes.
        nearest: nearest item of the history by modality; omitted if the item lacks the modality.
        lacks: modalities that other items have, but not this one.
    """

    item: str
    title: str | None
    score: float
    source: str
    parts: dict[str, float]
    shares: dict[str, float]
    nearest: dict[str, Nearest]
    lacks: list[str]


def with_modalities(recommender: Recommender, modalities: Sequence[str]) -> Recommender:
    """A recommender whose items have these modalities only; nothing is trained again.

    It shares the tensors of the given one, which does not change.

    Raises:
        CatalogError: the model lacks one of them, or nothing would be left.
    """
    model = recommender.model
    unknown = sorted(set(modalities) - set(model.modalities))
    if unknown:
        raise CatalogError(f"no modality {unknown[0]!r}; the model has {model.modalities}")
    if set(modalities) == set(model.modalities):
        return recommender
    if not modalities and not model.use_item_id:
        raise CatalogError("keep at least one modality: the model has no item IDs")
    fewer = model.sharing_copy()
    fewer.keep_modalities(modalities)
    return recommender.of_model(fewer)


@torch.no_grad()
def explain(
    recommender: Recommender,
    history: Sequence[str],
    k: int,
    filter_seen: bool = False,
    times: Sequence[float] | None = None,
    items: Iterable[str] | None = None,
    exclude: Iterable[str] | None = None,
    strict: bool = True,
) -> list[Reason]:
    """The ``k`` best items after a history, best first, with reasons; the most popular items after an
    empty one.

    Args:
        recommender: trained model with its items.
        history: external ids, in their order unless there are times.
        k: number of items.
        filter_seen: whether to exclude the items of the history.
        times: times of its events, unix seconds, which put them in order as in
            :meth:`~recbole_mm.recommend.recommender.Recommender.recommend`.
        items: external ids of the items that may be recommended; ``None``: all of the catalog.
        exclude: external ids of items that are not recommended.
        strict: whether an unknown item of these is an error; otherwise it is skipped.

    Raises:
        CatalogError: an item is not in the catalog, or the numbers of times and items of the history
            differ.
    """
    model, catalog = recommender.model, recommender.catalog
    part = _part(catalog, history, times)
    ranker = Ranker(
        model,
        catalog,
        k,
        *requested_ids(catalog, items, exclude, strict),
        filter_seen,
        request_time=0.0 if part.times is None else float(part.times.max(initial=0.0)),
    )
    ranked = ranker.rank(part)
    kept = ranked.item_id[0] > 0
    best, scores = ranked.item_id[0][kept], ranked.score[0][kept]
    rows = torch.from_numpy(best).to(model.device)
    lacking = {m: ~model.present(m)[rows] for m in model.modalities}
    parts: list[dict[str, float]] = [{} for _ in best]
    nearest = {}
    if len(part.items):
        parts = _parts(model, ranker.batch(part, np.array([0])), rows, lacking)
        nearest = _nearest(model, catalog, torch.from_numpy(np.unique(part.items)), rows)
    some_have = [m for m in model.modalities if bool(model.present(m).any())]
    titles = [None] * len(best) if catalog.titles is None else catalog.titles.gather(best)
    source = SOURCES[int(ranked.popular[0])]
    return [
        Reason(
            catalog.tokens[int(item)],
            title,
            float(score),
            source,
            parts[place],
            _shares(parts[place]),
            {name: found[place] for name, found in nearest.items() if found[place]},
            [m for m in some_have if lacking[m][place]],
        )
        for place, (item, title, score) in enumerate(zip(best, titles, scores, strict=True))
    ]


def _part(catalog, history: Sequence[str], times: Sequence[float] | None) -> Part:
    """The history of one user, in the order of its times."""
    ids = catalog.ids_in_order(history, "history").numpy()
    seconds = None
    if times is not None:
        if fault := unpaired(ids, times):
            raise CatalogError(fault)
        seconds = np.array(times, dtype=np.float64)
        order = np.argsort(seconds, kind="stable")  # as in Histories.part
        ids, seconds = ids[order], seconds[order]
    return Part(pl.Series(["user"]), np.array([len(ids)]), ids, seconds)


def _parts(
    model, batch, items: torch.Tensor, lacking: dict[str, torch.Tensor]
) -> list[dict[str, float]]:
    """The parts of the score of each item.

    Args:
        model: model of this package.
        batch: batch of one user.
        items: ids, ``(n,)``.
        lacking: whether each item lacks a modality, ``(n,)`` bool, by modality.
    """
    try:
        parts = model.score_parts(model.encode(batch), items)
    except NotImplementedError:
        return [{} for _ in items]
    absent = dict(lacking)
    if model.neighbors is not None:
        profile = model.neighbors.profile(batch[model.ITEM_SEQ], batch[model.ITEM_SEQ_LEN])
        for modality, part in model.neighbors.parts(profile, items).items():
            name = NEIGHBORS.format(modality)
            parts[name], absent[name] = part, lacking[modality]
    values = {name: part[0] for name, part in parts.items()}
    bias = torch.zeros_like(items, dtype=torch.float32)
    for modality in model.modalities:
        bias += values[modality] * lacking[modality]
    values[BIAS], absent[BIAS] = bias, bias == 0
    added = model.history_additions(batch)
    if added is not None:
        own = added.column[0].unsqueeze(1) == items
        values[REPEATS] = (own * added.value[0].unsqueeze(1)).sum(dim=0)
    shown = {name: (~absent[name]).tolist() for name in absent}
    numbers = {name: value.tolist() for name, value in values.items()}
    return [
        {
            name: own[place]
            for name, own in numbers.items()
            if name not in shown or shown[name][place]
        }
        for place in range(len(items))
    ]


def _shares(parts: dict[str, float]) -> dict[str, float]:
    total = sum(map(abs, parts.values()))
    return {name: abs(part) / total if total else 0.0 for name, part in parts.items()}


def _nearest(model, catalog, history: torch.Tensor, items: torch.Tensor):
    """By modality, the other item of the history that is nearest to each item, or ``None``."""
    history = history.to(model.device)
    found = {}
    for modality in model.modalities:
        table, present = model.feature(modality), model.present(modality)
        cosine = (
            F.normalize(table[items].float(), dim=1) @ F.normalize(table[history].float(), dim=1).T
        )
        usable = present[items].unsqueeze(1) & present[history] & (items.unsqueeze(1) != history)
        best = cosine.masked_fill(~usable, -torch.inf).max(dim=1)
        found[modality] = [
            Nearest(catalog.tokens[int(history[place])], float(value))
            if value > -torch.inf
            else None
            for value, place in zip(best.values, best.indices, strict=True)
        ]
    return found
