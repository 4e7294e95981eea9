"""Why an item is recommended: the parts of its score, and the nearest items of the history."""

import polars as pl
import pytest
import torch
from small_models import SMALL
from torch.testing import assert_close

from recbole_mm.model.layers.fusion import FUSIONS
from recbole_mm.recommend.catalog import CatalogError
from recbole_mm.recommend.explain import explain, with_modalities
from recbole_mm.recommend.recommender import Recommender

VARIANTS = [
    *((name, {"use_item_id": True}) for name in SMALL),
    *(
        (name, {"use_item_id": by_id, "item_mm_fusion": fusion})
        for name in ("MMM4Rec", "MISSRec")
        for by_id in (True, False)
        for fusion in FUSIONS
    ),
    ("MISSRec", {"use_item_id": True, "modalities": ["image"]}),
    ("UniSRec", {"use_item_id": False}),
]


@pytest.fixture
def opened(trained):
    def open_trained(name, **settings):
        checkpoint = trained(name, **settings).result.checkpoint
        return Recommender.from_pretrained(checkpoint, device="cpu")

    return open_trained


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
def test_the_parts_of_a_score_are_its_sum(name, settings, opened):
    recommender = opened(name, **settings)
    model = recommender.model
    user = torch.randn(3, model.hidden_size)
    items = torch.tensor([5, 1, 12])
    with torch.no_grad():
        parts = model.score_parts(user, items)
        expected = model.scores(model.embed_items(items))(user)

    assert_close(sum(parts.values()), expected, atol=1e-5, rtol=1e-5)
    names = [*model.modalities, *(["id"] if model.use_item_id else [])]
    assert sorted(parts) == sorted(names)
    reasons = explain(recommender, ["i1", "i2", "i3"], 5)
    assert [reason.item for reason in reasons] == recommended(recommender, ["i1", "i2", "i3"], 5)
    for reason in reasons:
        assert sum(reason.parts.values()) == pytest.approx(reason.score, abs=1e-4)
        assert sum(reason.shares.values()) == pytest.approx(1)


def recommended(recommender, history, k):
    frame = pl.DataFrame({"user": ["u"], "items": [history]})
    return recommender.recommend(frame, k=k)["item"].to_list()


def test_the_nearest_item_of_the_history_is_another_one_that_has_the_modality(opened):
    recommender = opened("UniSRec")
    recommender.model.present("image")[1 + 4] = False  # i4

    reasons = {reason.item: reason for reason in explain(recommender, ["i1", "i4", "i7"], 12)}

    assert reasons["i5"].nearest["text"].item == "i4"  # neighbors on the circle
    assert reasons["i5"].nearest["image"].item != "i4"
    assert reasons["i1"].nearest["text"].item != "i1"
    assert "image" not in reasons["i4"].nearest
    assert all(
        -1.001 <= near.cosine <= 1.001 for r in reasons.values() for near in r.nearest.values()
    )


@pytest.mark.parametrize("name", SMALL)
def test_a_modality_that_is_switched_off_adds_nothing_and_stays_in_the_original(name, opened):
    recommender = opened(name, use_item_id=True)
    before = explain(recommender, ["i1", "i2"], 12)

    fewer = with_modalities(recommender, ["text"])

    after = explain(fewer, ["i1", "i2"], 12)
    assert "image" not in after[0].nearest
    assert explain(recommender, ["i1", "i2"], 12) == before
    assert [r.score for r in after] != [r.score for r in before]
    for own, other in zip(fewer.model.parameters(), recommender.model.parameters(), strict=True):
        assert own.data_ptr() == other.data_ptr()


def test_what_cannot_be_explained_is_an_error(opened):
    recommender = opened("UniSRec", use_item_id=False)

    with pytest.raises(CatalogError, match="not in the catalog"):
        explain(recommender, ["i99"], 3)
    with pytest.raises(CatalogError, match="no modality 'sound'"):
        with_modalities(recommender, ["sound"])
    with pytest.raises(CatalogError, match="at least one modality"):
        with_modalities(recommender, [])


def test_what_a_switched_off_modality_leaves_is_called_bias(opened):
    recommender = opened("MMM4Rec", use_item_id=True)

    reasons = explain(with_modalities(recommender, ["text"]), ["i1", "i2"], 5)

    assert all(set(reason.parts) == {"text", "id", "bias"} for reason in reasons)
    assert all(
        sum(reason.parts.values()) == pytest.approx(reason.score, abs=1e-4) for reason in reasons
    )


def test_times_and_the_items_of_the_history_count_as_in_recommend(opened):
    recommender = opened("MMM4Rec-time")
    history, times = ["i1", "i2", "i3"], [1.4e9, 1.4e9 + 86_400.0, 1.4e9 + 9 * 86_400.0]
    frame = pl.DataFrame({"user": ["u"], "items": [history], "timestamps": [times]})
    expected = recommender.recommend(frame, k=5, filter_seen=True)

    reasons = explain(recommender, history, 5, filter_seen=True, times=times)

    assert [reason.item for reason in reasons] == expected["item"].to_list()
    scores = [reason.score for reason in reasons]
    assert scores == pytest.approx(expected["score"].to_list(), rel=1e-4)
    without = explain(recommender, history, 5, filter_seen=True)
    assert scores != [reason.score for reason in without]
    with pytest.raises(CatalogError, match="3 items, but 1 time: "):
        explain(recommender, history, 5, times=[1.0])


@pytest.mark.parametrize("times", [None, []])
def test_after_no_event_the_most_popular_items_are_recommended(times, opened):
    recommender = opened("UniSRec")
    frame = pl.DataFrame({"user": ["u", "v"], "items": [["ghost"], ["i1"]]})
    some = {"items": ["i1", "i3", "i5", "i7"], "exclude": ["i3"]}
    expected = recommender.recommend(frame, k=3, **some).filter(user="u")

    reasons = explain(recommender, [], 3, times=times, **some)

    assert [reason.item for reason in reasons] == expected["item"].to_list()
    assert [reason.score for reason in reasons] == expected["score"].to_list()
    assert {reason.source for reason in reasons} == set(expected["source"]) == {"popular"}
    assert all(reason.parts == reason.shares == reason.nearest == {} for reason in reasons)


@pytest.mark.parametrize("name", ["MMM4Rec-time", "UniSRec"])
def test_times_put_the_events_in_order_as_in_recommend(name, opened):
    recommender = opened(name)
    day = 86_400.0
    history, times = ["i7", "i1", "i3", "i2"], [5 * day, day, day, 2 * day]  # a tie keeps its order
    frame = pl.DataFrame({"user": ["u"], "items": [history], "timestamps": [times]})
    expected = recommender.recommend(frame, k=5)

    reasons = explain(recommender, history, 5, times=times)

    assert [reason.item for reason in reasons] == expected["item"].to_list()
    scores = [reason.score for reason in reasons]
    assert scores == pytest.approx(expected["score"].to_list(), rel=1e-4)
    ordered = explain(recommender, ["i1", "i3", "i2", "i7"], 5, times=sorted(times))
    assert reasons == ordered
    assert scores != [reason.score for reason in explain(recommender, history, 5)]


def test_an_item_without_text_has_no_part_of_text(opened):
    recommender = opened("MMM4Rec", use_item_id=True)
    before = {reason.item: reason for reason in explain(recommender, ["i1", "i2"], 12)}
    recommender.model.present("text")[1 + 5] = False  # i5

    reasons = {reason.item: reason for reason in explain(recommender, ["i1", "i2"], 12)}

    own = reasons["i5"]
    assert set(own.parts) == set(own.shares) == {"image", "id", "bias"}
    assert own.parts["bias"] == pytest.approx(before["i5"].parts["text"], abs=1e-5)
    assert sum(own.parts.values()) == pytest.approx(own.score, abs=1e-4)
    assert own.lacks == ["text"]
    assert set(reasons["i4"].parts) == {"text", "image", "id"} and reasons["i4"].lacks == []


def test_an_item_does_not_lack_what_is_switched_off(opened):
    recommender = opened("MMM4Rec", use_item_id=True)

    reasons = explain(with_modalities(recommender, []), ["i1", "i2"], 5)

    assert all(set(reason.parts) == {"id", "bias"} for reason in reasons)
    assert all(reason.lacks == [] and reason.nearest == {} for reason in reasons)


def test_an_item_without_text_has_no_neighbors_by_text(opened):
    recommender = opened("SASRecPlus-neighbors")
    recommender.model.present("text")[1 + 5] = False
    recommender.model.keep_modalities(["text", "image"])

    reasons = {reason.item: reason for reason in explain(recommender, ["i1", "i2"], 12)}

    assert {"text", "text neighbors"}.isdisjoint(reasons["i5"].parts)
    assert {"text", "text neighbors"} < set(reasons["i4"].parts)
    assert sum(reasons["i5"].parts.values()) == pytest.approx(reasons["i5"].score, abs=1e-4)
