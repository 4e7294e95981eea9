"""Neighbors of items, on a circle where an item's neighbors are the ones before and after it."""

from pathlib import Path

import polars as pl
import pytest
import torch
from polars.testing import assert_frame_equal
from small_models import SMALL

from recbole_mm.cli import main
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import run
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


def test_one_kind_of_similarity_is_that_of_all(trained, monkeypatch):
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)
    recommender.model.present("image")[1 + 4] = False  # i4
    items = recommender.catalog.tokens[1:].to_list()
    every = recommender.similar_items(items, k=3)

    assert every["item"].unique(maintain_order=True).to_list() == items
    monkeypatch.setattr("recbole_mm.recommend.similar.COSINES_AT_ONCE", 30)  # two items
    for by in ("text", "image", "fused"):
        table = recommender.similar_items(items, k=3, by=by)
        assert_frame_equal(table, every.filter(by=by))
        assert len(table) == 3 * (11 if by == "image" else 12)
    assert recommender.similar_items([]).columns == every.columns
    with pytest.raises(UserError, match="by is 'sound'; it must be one of text, image, fused"):
        recommender.similar_items("i5", by="sound")


@pytest.mark.parametrize(("ending", "read"), [("csv", pl.read_csv), ("parquet", pl.read_parquet)])
def test_the_command_writes_the_similar_items(ending, read, trained, tmp_path, capsys):
    checkpoint = trained("UniSRec").result.checkpoint
    recommender = Recommender.from_pretrained(checkpoint)
    (tmp_path / "some.txt").write_text("i5\ni2\n")
    output = tmp_path / f"similar.{ending}"
    command = ["similar", f"--model={checkpoint}", f"--output={output}", "--k=3"]

    assert main(command) == 0
    assert capsys.readouterr().out == f"{output}: 12 items\n"
    expected = recommender.similar_items(recommender.catalog.tokens[1:], 3, "fused")
    assert_frame_equal(read(output), expected, check_dtypes=False)

    assert main([*command, "--by=image", f"--items={tmp_path / 'some.txt'}"]) == 2
    assert f"{output} exists" in capsys.readouterr().err
    some = ["--by=image", f"--items={tmp_path / 'some.txt'}", "--overwrite"]
    assert main([*command, *some]) == 0
    expected = recommender.similar_items(["i5", "i2"], 3, "image")
    assert_frame_equal(read(output), expected, check_dtypes=False)


def test_new_items_are_similar_too_and_have_what_they_have_features_of(trained, tmp_path, capsys):
    checkpoint = trained("UniSRec", use_item_id=False).result.checkpoint
    (tmp_path / "new.jsonl").write_text('{"item": "n", "text": [0.0, 1.0, 0.0, 1.0]}\n')
    common = [f"--model={checkpoint}", "--new-items=new.jsonl", "--k=20", "--overwrite"]

    assert main(["similar", *common, "--output=similar.jsonl", "--by=text"]) == 0
    table = pl.read_ndjson("similar.jsonl")
    assert len(table) == 13 * 12 and "n" in table["similar"]

    assert main(["similar", *common, "--output=similar.jsonl", "--by=image"]) == 0
    message = "similar.jsonl: 13 items; 1 without features have no similar ones\n"
    assert capsys.readouterr().out.endswith(message)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--k=0", "--k=0: give a number >= 1"),
        ("--by=sound", "by is 'sound'; it must be one of text, image, fused"),
        ("--items=no.txt", "no.txt"),
        ("--output=similar.doc", "similar.doc: the format '.doc' is unknown"),
    ],
)
def test_an_option_of_the_command_that_cannot_be_used_is_named(option, message, trained, capsys):
    checkpoint = trained("UniSRec").result.checkpoint
    output = [] if "output" in option else ["--output=similar.csv"]

    assert main(["similar", f"--model={checkpoint}", *output, option]) == 2

    assert message in capsys.readouterr().err
    assert not Path("similar.csv").exists()


def test_the_table_of_items_is_not_overwritten(trained, capsys):
    checkpoint = trained("UniSRec").result.checkpoint
    Path("items.csv").write_text("item\ni1\n")
    command = ["similar", f"--model={checkpoint}", "--items=items.csv", "--output=items.csv"]

    assert main([*command, "--overwrite"]) == 2

    assert "--items" in capsys.readouterr().err
    assert Path("items.csv").read_text() == "item\ni1\n"


def test_a_model_of_recbole_has_no_similar_items(toy, capsys):
    checkpoint = run("Pop", config_dict={**toy, "show_progress": False}).checkpoint

    assert main(["similar", f"--model={checkpoint}", "--output=similar.csv"]) == 2

    assert "Popularity works only with recommend, not with similar" in capsys.readouterr().err
