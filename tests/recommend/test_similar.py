"""Neighbors of items, on a circle where an item's neighbors are the ones before and after it."""

import pytest
import torch
from small_models import SMALL

from recbole_mm.recommend.recommender import Recommender
from recbole_mm.tools.errors import UserError


@pytest.mark.parametrize("name", SMALL)
def test_neighbors_are_those_of_the_features_and_of_the_model(name, trained):
    run = trained(name, use_item_id=False)
    recommender = Recommender.from_pretrained(run.result.checkpoint)

    table = recommender.similar_items("i5", k=2)

    assert table["by"].to_list() == ["text", "text", "image", "image", "fused", "fused"]
    assert table["rank"].to_list() == [1, 2] * 3
    assert set(table.filter(by="text")["similar"]) == {"i4", "i6"}
    item = recommender.catalog.ids(["i5"], "items")
    for by in ("text", "image"):
        vectors = recommender.model.feature(by).double()
        cosines = torch.cosine_similarity(vectors, vectors[item], dim=1)
        cosines[item] = -2
        cosines[0] = -2
        best = cosines.topk(2)
        rows = table.filter(by=by)
        assert rows["score"].to_list() == pytest.approx(best.values.tolist(), rel=1e-5)
    fused = table.filter(by="fused")
    assert "i5" not in set(fused["similar"])
    assert 1 >= fused["score"][0] >= fused["score"][1] >= -1


def test_a_twin_of_all_features_is_the_nearest(trained):
    recommender = Recommender.from_pretrained(
        trained("MISSRec", use_item_id=False).result.checkpoint
    )
    model, i2 = recommender.model, recommender.catalog.ids(["i2"], "items")
    features = {m: model.feature(m)[i2].tolist() for m in model.modalities}
    recommender.add_items({"item": ["twin"], **features})

    table = recommender.similar_items(["twin", "i2"], k=1)

    assert table.filter(item="twin")["similar"].to_list() == ["i2"] * 3
    assert table.filter(item="i2")["similar"].to_list() == ["twin"] * 3
    assert table["score"].to_list() == pytest.approx([1.0] * 6, abs=1e-5)


def test_items_that_lack_a_modality_or_are_removed_are_no_neighbors(trained):
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)
    recommender.add_items({"item": ["n"], "text": [[0.0, 1.0, 0.0, 1.0]]})
    recommender.remove_items(["i4"])

    assert set(recommender.similar_items("n", k=20)["by"]) == {"text", "fused"}
    table = recommender.similar_items("i5", k=20)
    assert "n" not in set(table.filter(by="image")["similar"])
    assert len(table.filter(by="image")) == 10
    assert "i4" not in set(table["similar"])
    with pytest.raises(UserError, match=r"not in the catalog of 13 items: 1 of \d, e.g. \['ix'\]"):
        recommender.similar_items("ix")


@pytest.mark.parametrize("k", [0, -1, 2.5, True])
def test_a_number_of_neighbors_is_a_whole_one(k, trained):
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)

    with pytest.raises(UserError, match=f"k is {k}; it must be a whole number >= 1"):
        recommender.similar_items("i5", k=k)
