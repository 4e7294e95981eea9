"""New items are ranked by their features; what does not fit those of the training is refused."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from small_models import SMALL

from recbole_mm.cli import main
from recbole_mm.data.builtin import ensure_demo
from recbole_mm.data.feature_files import feature_path, read_feature_info, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.tools.errors import UserError

HISTORIES = pl.DataFrame({"user": ["a", "b", "c"], "items": [["i1", "i2"], ["i7"], ["i4", "i9"]]})
NEW_HISTORIES = pl.DataFrame(
    {"user": ["a", "b", "c"], "items": [["i1", "n2"], ["n7"], ["i4", "i9"]]}
)


def vectors_of(toy, *items):
    """Vectors of items of the toy set, by modality."""
    folder = Path(toy["data_path"], "toy")
    return {
        m: read_item_features(feature_path(folder, "toy", m), ["pad", *items]).values[1:].tolist()
        for m in ("text", "image")
    }


def twins(toy, *numbers) -> pl.DataFrame:
    """New items ``n<i>`` with the vectors of the items ``i<i>``."""
    vectors = vectors_of(toy, *(f"i{i}" for i in numbers))
    return pl.DataFrame({"item": [f"n{i}" for i in numbers], **vectors})


@pytest.mark.parametrize("name", [name for name in SMALL if name != "UniSRec-repeats"])
def test_a_new_item_is_ranked_like_the_one_with_its_features(name, trained, toy):
    run = trained(name, use_item_id=False)
    recommender = Recommender.from_pretrained(run.result.checkpoint)
    before = recommender.recommend(HISTORIES, k=12)

    assert recommender.add_items(twins(toy, 2, 7)) == 2

    after = recommender.recommend(HISTORIES, k=14)
    for user in "abc":
        old, new = (
            dict(t.filter(user=user).select("item", "score").iter_rows()) for t in (before, after)
        )
        assert {item: new[item] for item in old} == pytest.approx(old, rel=1e-4)
        assert [new["n2"], new["n7"]] == pytest.approx([old["i2"], old["i7"]], rel=1e-4)
    in_histories = recommender.recommend(NEW_HISTORIES, k=14)
    pairs = zip(in_histories["score"], after["score"], strict=True)
    assert all(a == pytest.approx(b, rel=1e-3) for a, b in pairs)


@pytest.fixture
def recommender(trained):
    return Recommender.from_pretrained(trained("UniSRec").result.checkpoint)


def test_with_ids_new_items_are_recommended_and_survive_a_bundle(recommender, toy, tmp_path):
    recommender.add_items(twins(toy, 2, 7).with_columns(title=pl.Series(["Two", None])))
    recommender.remove_items(["i3"])
    expected = recommender.recommend(HISTORIES, k=13)
    recommender.save_pretrained(tmp_path / "bundle")

    again = Recommender.from_pretrained(tmp_path / "bundle")

    table = again.recommend(HISTORIES, k=13, titles=True)
    assert table["item"].to_list() == expected["item"].to_list()
    assert {"n2", "n7"} < set(table["item"]) and "i3" not in set(table["item"])
    assert set(table.filter(item="n2")["title"]) == {"Two"}


def test_removed_items_are_not_recommended_but_read(recommender, caplog):
    histories = pl.DataFrame({"user": ["a"], "items": [["i1", "i2"]]})
    before = recommender.recommend(histories, k=12)

    recommender.remove_items(["i2", "i5"])

    after = recommender.recommend(histories, k=10)
    assert (
        after["item"].to_list()
        == before.filter(~pl.col("item").is_in(["i2", "i5"]))["item"].to_list()
    )
    assert recommender.recommend(histories, k=12).equals(after)
    recommender.remove_items(["ix", "i4"])
    assert "removed items: not in the catalog of 12 items: 1 of 2, e.g. ['ix']" in caplog.text
    assert "i4" not in recommender.recommend(histories)["item"].to_list()
    with pytest.raises(UserError, match=r"not in the catalog of 12 items: 1 of 1, e.g. \['ix'\]"):
        recommender.remove_items(["ix"], strict=True)


def test_the_catalog_of_a_day_replaces_that_of_the_training(recommender, toy):
    today = pl.concat([twins(toy, 2), pl.DataFrame({"item": ["i1", "i5"]})], how="diagonal")

    assert recommender.replace_catalog(today) == 1

    assert set(recommender.recommend(HISTORIES, k=3)["item"]) == {"n2", "i1", "i5"}
    assert recommender.replace_catalog(pl.DataFrame({"item": ["i3", "n2"]})) == 0
    assert set(recommender.recommend(HISTORIES, k=2)["item"]) == {"i3", "n2"}


def test_known_items_keep_what_is_known_of_them(recommender, toy):
    before = recommender.recommend(HISTORIES, k=12)
    table = twins(toy, 2).with_columns(item=pl.lit("i7"))

    assert recommender.add_items(table) == 0
    assert recommender.recommend(HISTORIES, k=12).equals(before)


@pytest.mark.parametrize(
    ("option", "printed"),
    [
        ("--new-items", "1 new item; already in the catalog: 2"),
        ("--catalog", "new.csv: 3 items to recommend, 1 new"),
    ],
)
def test_the_command_counts_new_and_known_items(option, printed, trained, toy, tmp_path, capsys):
    checkpoint = trained("UniSRec").result.checkpoint
    vectors = {m: [json.dumps(values[0])] for m, values in vectors_of(toy, "i2").items()}
    table = pl.DataFrame({"sku": ["n2"], **vectors})
    known = pl.DataFrame({"sku": ["i1", "i4"]})
    pl.concat([table, known], how="diagonal").write_csv(tmp_path / "new.csv", separator=";")
    command = ["export", checkpoint, str(tmp_path / "b"), "--no-test", "--item-column=sku"]

    assert main([*command, "--separator=;", f"{option}={tmp_path / 'new.csv'}"]) == 0

    assert printed in capsys.readouterr().out


def test_items_of_the_data_set_without_interactions_are_recommended(trained, toy, tmp_path, capsys):
    folder = Path(toy["data_path"], "toy")
    for modality, values in vectors_of(toy, *(f"i{n}" for n in range(12)), "i2", "i7").items():
        tokens = [*(f"i{n}" for n in range(12)), "tomorrow", "unlisted"]
        path = feature_path(folder, "toy", modality)
        write_item_features(path, tokens, np.array(values, dtype=np.float32))
    lines = ["item_id:token\ttitle:token_seq", *(f"i{n}\tTitle {n}" for n in range(12))]
    lines += ["tomorrow\tTomorrow's", "without features\tNothing"]
    (folder / "toy.item").write_text("\n".join(lines) + "\n")
    model = trained("UniSRec", use_item_id=False).result.checkpoint
    histories = "user,item\na,i1\n"
    (tmp_path / "today.csv").write_text(histories)
    given = ["--no-progress", f"--model={model}", f"--histories={tmp_path}/today.csv", "--k=20"]

    assert main(["recommend", *given, "--titles", f"--output={tmp_path}/top.csv"]) == 0

    assert "1 item of the data set without interactions: recommended" in capsys.readouterr().out
    table = pl.read_csv(tmp_path / "top.csv")
    assert sorted(table["item"]) == sorted([*(f"i{n}" for n in range(12)), "tomorrow"])
    score = dict(table.select("item", "score").iter_rows())
    assert score["tomorrow"] == pytest.approx(score["i2"], rel=1e-4)  # the same features
    assert table.filter(item="tomorrow")["title"].item() == "Tomorrow's"
    pl.DataFrame({"item": ["i5", "tomorrow"]}).write_csv(tmp_path / "catalog.csv")
    output = tmp_path / "of_catalog.csv"
    catalog = f"--catalog={tmp_path}/catalog.csv"
    assert main(["recommend", *given, catalog, f"--output={output}"]) == 0
    assert set(pl.read_csv(output)["item"]) == {"i5", "tomorrow"}


def test_vectors_may_be_feature_files(recommender, toy, tmp_path):
    vectors = vectors_of(toy, "i2", "i7")
    files = {}
    for modality, values in vectors.items():
        files[modality] = tmp_path / f"new.{modality}.npz"
        write_item_features(files[modality], ["n2", "n7"], np.array(values, dtype=np.float32))

    assert recommender.add_items(vectors=files) == 2
    assert recommender.catalog.tokens.to_list()[-2:] == ["n2", "n7"]
    assert recommender.model.present("image")[-2:].all()
    np.testing.assert_allclose(recommender.model.feature("text")[-2:], vectors["text"])


def test_an_item_may_lack_a_modality(recommender, toy, caplog):
    table = twins(toy, 2, 7).with_columns(
        image=pl.when(pl.col("item") == "n2").then(pl.col("image"))
    )
    extra = pl.DataFrame({"item": ["nothing"]})

    recommender.add_items(pl.concat([table, extra], how="diagonal"))

    assert recommender.model.present("image")[-3:].tolist() == [True, False, False]
    assert "without features, and never recommended: 1 new item" in caplog.text
    items = set(recommender.recommend(HISTORIES, k=15)["item"])
    assert {"n2", "n7"} < items and "nothing" not in items


def wrong_width(table):
    return table.with_columns(text=pl.col("text").list.head(3))


def not_a_number(table):
    return table.with_columns(text=pl.col("text").list.eval(pl.element() / 0))


WRONG = [
    (wrong_width, "text vectors of width 3, but the model was trained with width 4"),
    (not_a_number, "text vectors with NaN, infinite or too large values"),
    (lambda t: pl.concat([t, t]), r"2 duplicate items, e.g. \['n2', 'n7'\]"),
    (lambda t: t.drop("item"), "no column of items: name it with --item-column"),
    (lambda t: t.with_columns(item=pl.Series(["n2", None])), "row 2 of the new items has no item"),
    (lambda t: t.drop("text", "image"),
     r"content of \['text', 'image'\], which is read from the columns text, image: the table has the columns"),
    (lambda t: t.drop("text", "image").with_columns(text=pl.lit("red")),
     "text features are by 'circle', which recbole-mm extract did not run: give ready vectors"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_what_does_not_fit_is_refused_and_nothing_is_added(spoil, message, trained, toy):
    folder = Path(toy["data_path"], "toy")
    values = np.array(vectors_of(toy, *(f"i{i}" for i in range(12)))["text"], dtype=np.float32)
    info = {"encoder": "circle", "revision": "1"}
    write_item_features(
        feature_path(folder, "toy", "text"), [f"i{i}" for i in range(12)], values, info
    )
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)

    with pytest.raises(UserError, match=message):
        recommender.add_items(spoil(twins(toy, 2, 7)))

    assert len(recommender.catalog.tokens) == recommender.model.n_items == 13


def test_vectors_of_another_encoder_or_scale_are_refused(trained, toy, tmp_path):
    folder = Path(toy["data_path"], "toy")
    tokens = [f"i{i}" for i in range(12)]
    values = np.array(vectors_of(toy, *tokens)["text"], dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    info = {"encoder": "circle", "revision": "1", "normalization": "l2"}
    write_item_features(feature_path(folder, "toy", "text"), tokens, values, info)
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)
    file = write_item_features(tmp_path / "n.npz", ["n"], values[:1], {**info, "revision": "2"})

    with pytest.raises(UserError, match="revision '1' in the checkpoint, '2' here"):
        recommender.add_items(vectors={"text": file})
    with pytest.raises(UserError, match="lengths like 3, but .* vectors of length 1"):
        recommender.add_items(pl.DataFrame({"item": ["n"], "text": [(3 * values[0]).tolist()]}))
    with pytest.raises(UserError, match=r"no modality \['audio'\]; it has \['text', 'image'\]"):
        recommender.add_items(vectors={"audio": file})
    with pytest.raises(UserError, match="the model has no modality"):
        recommender.add_items(pl.DataFrame({"item": ["n"]}), encoders={"audio": "anywhere"})


def test_a_model_of_ids_alone_needs_a_training(trained):
    run = trained("SASRecPlus", modalities=[])
    recommender = Recommender.from_pretrained(run.result.checkpoint)

    with pytest.raises(UserError, match="only by their IDs: new items need a training"):
        recommender.add_items(pl.DataFrame({"item": ["n"]}))


# raw texts and pictures


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    ensure_demo(folder, folder)
    return folder


@pytest.fixture
def demo(demo_files, tmp_path):
    """The demo set, whose features are by the embedded extractor."""
    folder = tmp_path / "dataset" / "demo"
    shutil.copytree(demo_files, folder)
    return {
        "dataset": "demo",
        "data_path": str(folder.parent),
        "epochs": 1,
        "train_batch_size": 4096,
    }


@pytest.fixture
def demo_recommender(demo, trained):
    settings = {**demo, "use_item_id": False}
    return Recommender.from_pretrained(trained("UniSRec", **settings).result.checkpoint)


def demo_items(demo):
    return pl.read_csv(
        f"{demo['data_path']}/demo/demo.item",
        separator="\t",
        new_columns=["item", "title", "image"],
    ).fill_null("")


def test_raw_texts_and_pictures_get_the_vectors_of_the_training(demo, demo_recommender):
    items = demo_items(demo).filter((pl.col("title") != "") & (pl.col("image") != "")).head(5)
    new = items.with_columns(item="new-" + pl.col("item"))
    ids = demo_recommender.catalog.ids(items["item"], "items")

    demo_recommender.add_items(new, pictures=f"{demo['data_path']}/demo")

    for modality in ("text", "image"):
        feature = demo_recommender.model.feature(modality)
        order = np.argsort(items["item"].to_numpy())
        np.testing.assert_allclose(feature[-5:][order], feature[ids], atol=5e-3)


def test_vectors_of_another_space_of_the_embedded_extractor_are_refused(demo, demo_recommender):
    files = {}
    for modality in ("text", "image"):
        with np.load(feature_path(Path(demo["data_path"], "demo"), "demo", modality)) as file:
            arrays = dict(file)
        arrays["item_id"] = np.array([f"new-{token}" for token in arrays["item_id"]])
        files[modality] = f"{modality}.npz"
        np.savez(files[modality], **arrays)

    with pytest.raises(
        UserError,
        match=r"image\.npz: other text vectors than .* embedded extractor in another space",
    ):
        demo_recommender.add_items(vectors={"text": files["image"]})

    assert demo_recommender.add_items(vectors=files) > 100


def test_the_command_adds_items_of_a_csv_with_pictures_beside_it(demo, trained, tmp_path, capsys):
    run = trained("UniSRec", **demo)
    shop = tmp_path / "shop"
    (shop / "photos").mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save(shop / "photos" / "a.png")
    (shop / "new.csv").write_text(
        "item,title,image\nnew-1,Gleaming brass lamp,photos/a.png\nnew-2,Wooden train,../../secret.png\n"
    )
    (shop / "today.csv").write_text("user,item\nanna,new-1\nanna,d001\n")
    (shop / "offered.txt").write_text("new-1\nnew-2\n")
    output = tmp_path / "top.csv"

    status = main(
        ["recommend", "--no-progress", f"--model={run.result.checkpoint}", f"--output={output}",
         f"--histories={shop}/today.csv", f"--new-items={shop}/new.csv", f"--items={shop}/offered.txt", "--k=2", "--strict"]
    )  # fmt: skip

    captured = capsys.readouterr()
    assert status == 0
    assert "\n2 new items\n" in f"\n{captured.out}"
    assert set(pl.read_csv(output)["item"]) == {"new-1", "new-2"}


def test_a_picture_outside_its_folder_is_left_out(demo_recommender, caplog):
    Image.new("RGB", (40, 40), "red").save("secret.png")
    new = pl.DataFrame({"item": ["n"], "title": ["Brass lamp"], "image": ["../secret.png"]})
    Path("photos").mkdir()

    demo_recommender.add_items(new, pictures="photos")

    assert not demo_recommender.model.present("image")[-1]
    assert demo_recommender.model.present("text")[-1]
    assert (
        f"is not in the folder {Path.cwd() / 'photos'} (to include it, name its folder: --images="
        in (caplog.text)
    )


def test_an_absolute_path_inside_the_folder_is_a_picture_which_results_show(demo_recommender):
    Path("photos").mkdir()
    picture = Path("photos", "a.png").absolute()
    Image.new("RGB", (40, 40), "red").save(picture)
    new = pl.DataFrame({"item": ["n"], "title": ["Brass lamp"], "image": [str(picture)]})

    demo_recommender.save_pretrained("bundle")
    for recommender in (demo_recommender, Recommender.from_pretrained("bundle")):
        recommender.add_items(new, pictures="photos")

        assert recommender.model.present("image")[-1]
        table = recommender.recommend(
            pl.DataFrame({"user": ["a"], "item": ["n"]}), k=1, items=["n"], pictures=True
        )
        assert Path(table["image"][0]).samefile(picture)
        assert recommender.catalog.picture_names.to_list()[-1] == "a.png"


def test_vectors_in_the_cells_of_a_csv_are_vectors(trained, toy, tmp_path):
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)
    vectors = vectors_of(toy, "i2")["text"][0]
    table = pl.DataFrame({"item": ["n1", "n2"], "text": [json.dumps(vectors), None]})
    table.write_csv(tmp_path / "new.csv")

    recommender.add_items(tmp_path / "new.csv")

    item = recommender.catalog.ids(["i2"], "items")
    feature = recommender.model.feature("text")
    np.testing.assert_allclose(feature[-2], feature[item][0], rtol=1e-6)
    assert recommender.model.present("text")[-2:].tolist() == [True, False]


def test_a_column_with_vectors_and_texts_is_refused(trained):
    recommender = Recommender.from_pretrained(trained("UniSRec").result.checkpoint)
    table = pl.DataFrame({"item": ["n1", "n2"], "text": ["[0.1, 0.2, 1, 0]", "[New] lamp"]})

    with pytest.raises(UserError, match=r"'text' has vectors, .* 'n2' has '\[New\] lamp'"):
        recommender.add_items(table)


def test_the_columns_that_texts_are_made_of_are_named(demo_recommender):
    table = pl.DataFrame({"item": ["n"], "name": ["Brass lamp"]})

    with pytest.raises(
        UserError,
        match=r"read from the columns title, text, image: the table has the columns \['item', 'name'\]",
    ):
        demo_recommender.add_items(table)


def test_columns_of_texts_and_pictures_may_have_any_names(demo, trained, tmp_path, capsys):
    model = trained("UniSRec", **demo).result.checkpoint
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    values = [["n1", "Brass lamp", "a.png"]]
    pl.DataFrame(values, ["item", "title", "image"], orient="row").write_csv("usual.csv")
    pl.DataFrame(values, ["sku", "name", "photo"], orient="row").write_csv("other.csv")
    named = ["--key-column=sku", "--item-text=title=name", "--item-text=image=photo"]
    command = ["export", model, "--no-test", f"--images={tmp_path}"]

    assert main([*command, "usual", "--catalog=usual.csv"]) == 0
    assert main([*command, "other", "--catalog=other.csv", *named]) == 0

    catalogs = [Recommender.from_pretrained(name).catalog for name in ("usual", "other")]
    for modality in ("text", "image"):
        usual, other = (catalog.features[modality] for catalog in catalogs)
        assert usual.present[-1] and torch.equal(usual.values, other.values)
    assert [catalog.tokens[-1] for catalog in catalogs] == ["n1", "n1"]
    assert main([*command, "x", "--catalog=usual.csv", "--item-text=title=nam"]) == 2
    assert "usual.csv: no column 'nam': name that of title with --item-text title=COLUMN" in (
        capsys.readouterr().err
    )


def test_columns_that_a_table_lacks_are_reported(demo_recommender, caplog):
    demo_recommender.add_items(pl.DataFrame({"item": ["n1"], "title": ["Lamp"], "picture": ["a"]}))

    assert "(image: image); without them vectors are worse" in caplog.text
    assert "--item-text FIELD=COLUMN" in caplog.text
    caplog.clear()
    known = demo_recommender.catalog.tokens[1]
    demo_recommender.add_items(pl.DataFrame({"item": [known]}))
    assert "lacks columns" not in caplog.text


def test_lists_in_a_column_of_texts_are_joined_as_in_prepare(demo_recommender):
    texts = {"item": ["n1"], "title": [["Lamps", "Brass lamps"]]}
    demo_recommender.add_items(pl.DataFrame(texts))
    demo_recommender.add_items(pl.DataFrame({"item": ["n2"], "title": ["Lamps, Brass lamps"]}))

    feature = demo_recommender.model.feature("text")

    assert torch.equal(feature[-2], feature[-1])


def test_a_picture_that_is_not_there_names_the_folder_and_the_option(demo_recommender, caplog):
    new = pl.DataFrame({"item": ["n"], "title": ["Brass lamp"], "image": ["photos/a.png"]})

    demo_recommender.add_items(new)

    assert (
        f"n: no picture 'photos/a.png' in the folder {Path.cwd()} (name the folder that the path is "
        f"relative to: --images=FOLDER; in Python pictures=...)" in caplog.text
    )
    assert "Errno" not in caplog.text


def test_a_broken_picture_ends_no_other(demo_recommender, caplog):
    Path("a.png").write_bytes(b"\x89PNG broken")
    Image.new("RGB", (40, 40), "red").save("b.png")
    new = pl.DataFrame({"item": ["n1", "n2"], "image": ["a.png", "b.png"]})

    caplog.set_level(logging.WARNING)
    demo_recommender.add_items(new)

    assert demo_recommender.model.present("image")[-2:].tolist() == [False, True]
    assert (
        "1 text or picture of new items skipped, as they cannot be read, e.g. n1: a.png"
        in caplog.text
    )


def test_raw_content_goes_with_a_bundle(demo, demo_recommender, tmp_path):
    demo_recommender.save_pretrained(tmp_path / "bundle")
    again = Recommender.from_pretrained(tmp_path / "bundle")
    new = demo_items(demo).head(1).with_columns(item=pl.lit("n")).drop("image")

    again.add_items(new)
    demo_recommender.add_items(new)

    text = again.model.feature("text")[-1].float()
    np.testing.assert_allclose(text, demo_recommender.model.feature("text")[-1], atol=2e-3)


def test_features_without_their_space_take_no_raw_texts(demo, trained):
    folder = Path(demo["data_path"], "demo")
    path = feature_path(folder, "demo", "text")
    tokens = demo_items(demo)["item"].to_list()
    features = read_item_features(path, ["pad", *tokens])
    kept = [token for token, has in zip(tokens, features.present[1:], strict=True) if has]
    values = features.values[features.present].numpy()
    write_item_features(path, kept, values, read_feature_info(path))
    recommender = Recommender.from_pretrained(trained("UniSRec", **demo).result.checkpoint)

    with pytest.raises(UserError, match="whose space the feature file lacks"):
        recommender.add_items(pl.DataFrame({"item": ["n"], "title": ["Brass lamp"]}))


@pytest.fixture
def small_encoder(tmp_path):
    """A text encoder with random weights in a folder."""
    transformers = pytest.importorskip("transformers", reason="encoders need transformers")
    folder = tmp_path / "bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "brass", "lamp", "wooden", "train"]
    (folder / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizer.from_pretrained(str(folder)).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**size, intermediate_size=16, vocab_size=len(words))
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def recommender_of_texts(demo, trained):
    run = trained("UniSRec", **demo, modalities=["text"])
    return Recommender.from_pretrained(run.result.checkpoint)


def assert_texts_give_the_features_of_the_training(recommender, demo):
    items = demo_items(demo).filter(pl.col("title") != "").head(3)
    ids = recommender.catalog.ids(items["item"], "items")

    recommender.add_items(items.with_columns(item="new-" + pl.col("item")).drop("image"))

    feature = recommender.model.feature("text")
    order = np.argsort(items["item"].to_numpy())
    np.testing.assert_allclose(feature[-3:][order].float(), feature[ids].float(), atol=2e-3)


def test_raw_texts_go_through_the_encoder_of_the_training(demo, trained, small_encoder):
    root = demo["data_path"]
    command = ["extract", "demo", f"--output={root}", f"--encoder={small_encoder}"]
    assert not main([*command, "--modalities", "text", "--normalize"])
    recommender = recommender_of_texts(demo, trained)

    assert_texts_give_the_features_of_the_training(recommender, demo)
    weights = small_encoder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match="in the revision model.safetensors:.*, but here it is"):
        recommender.add_items(pl.DataFrame({"item": ["n"], "title": ["Brass lamp"]}))


@pytest.mark.parametrize("named", [str, lambda folder: os.path.relpath(folder)])
def test_an_encoder_that_has_moved_is_asked_for(named, demo, trained, small_encoder):
    encoder = named(small_encoder)
    command = ["extract", "demo", f"--output={demo['data_path']}", f"--encoder={encoder}"]
    assert not main([*command, "--modalities", "text"])
    recommender = recommender_of_texts(demo, trained)
    moved = small_encoder.rename(small_encoder.with_name("moved"))
    new = pl.DataFrame({"item": ["n"], "title": ["Brass lamp"]})

    with pytest.raises(UserError, match="bert, which is not here: .* --encoder=text=FOLDER"):
        recommender.add_items(new)

    recommender.export("bundle")
    assert recommender.add_items(new, encoders={"text": moved}) == 1
    new.write_csv("new.csv")
    Path("today.csv").write_text("user,item\nanna,n\n")
    command = ["recommend", "--no-progress", "--model=bundle", "--output=top.csv",
               "--histories=today.csv", "--new-items=new.csv", "--k=1"]  # fmt: skip
    assert main([*command, f"--encoder=text={moved}"]) == 0
    assert main([*command, "--overwrite", "--encoder=text=nowhere"]) == 2


@pytest.fixture
def sentence_encoder(small_encoder):
    """The same with a configuration of sentence-transformers: first token, length 1, a prompt."""
    pytest.importorskip("sentence_transformers", reason="needs recbole_mm[features]")
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [
        {"name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(kinds.items())
    ]
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True}
    (small_encoder / "1_Pooling").mkdir()
    for name, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("config_sentence_transformers.json", {"prompts": {"passage": "wooden "}}),
    ):
        (small_encoder / name).write_text(json.dumps(value))
    return small_encoder


def test_raw_texts_go_through_the_configuration_of_the_encoder(demo, trained, sentence_encoder):
    root = demo["data_path"]
    command = ["extract", "demo", f"--output={root}", f"--encoder={sentence_encoder}"]
    assert not main([*command, "--modalities", "text"])
    info = read_feature_info(feature_path(Path(root, "demo"), "demo", "text"))
    assert {key: info[key] for key in ("loader", "pooling", "prompt", "normalization")} == {
        "loader": "sentence-transformers",
        "pooling": "cls",
        "prompt": "wooden ",
        "normalization": "l2",
    }
    recommender = recommender_of_texts(demo, trained)

    assert_texts_give_the_features_of_the_training(recommender, demo)

    new = pl.DataFrame({"item": ["n"], "title": ["Brass lamp"]})
    pooling = sentence_encoder / "1_Pooling" / "config.json"
    before = pooling.read_text()
    pooling.write_text(before.replace("cls_token", "mean_tokens"))
    with pytest.raises(UserError, match="in the revision sha256:.*, but here it is sha256:"):
        recommender.add_items(new)
    pooling.write_text(before)
    (sentence_encoder / "modules.json").unlink()
    with pytest.raises(UserError, match="has no sentence-transformers configuration"):
        recommender.add_items(new)
    recommender.catalog.info["text"]["prompt"] = 3
    with pytest.raises(UserError, match="text features is damaged: prompt is not text"):
        recommender.add_items(new)
    recommender.catalog.info["text"] |= {"loader": "another-library", "prompt": ""}
    with pytest.raises(UserError, match="'another-library', which is not known here"):
        recommender.add_items(new)
