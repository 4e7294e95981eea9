import polars as pl
from PIL import Image

from recbole_mm.compare.examples import Catalog, examples
from recbole_mm.config.load import load_config


def ranks_of(user, target, recommended, rank):
    return pl.DataFrame(
        {
            "label": "A",
            "seed": 1,
            "user": [user],
            "item": [target],
            "rank": [rank],
            "recommended": [recommended],
        }
    ).lazy()


def test_an_example_has_history_recommendations_and_target(toy):
    config = load_config("SASRec", None, (), toy)
    ranks = ranks_of("u3", "i9", ["i1", "i9", "i2", "i4", "i5", "i6"], 2)

    (example,) = examples(ranks, config)

    assert [item.token for item in example.history] == ["i4", "i5", "i6", "i7", "i8"]
    assert (example.user, example.target.token, example.ranks) == ("u3", "i9", {"A": 2})
    assert [item.token for item in example.recommended["A"]] == ["i1", "i9", "i2", "i4", "i5"]
    assert [item.is_target for item in example.recommended["A"]] == [False, True, *[False] * 3]


def test_titles_and_pictures_where_there_are_any(toy, tmp_path):
    folder = tmp_path / "dataset/toy"
    (folder / "images").mkdir()
    Image.new("RGB", (300, 200), "red").save(folder / "images/a.png")
    (folder / "images/broken.png").write_bytes(b"no picture")
    lines = ["item_id:token\ttitle:token_seq\timage:token", "i0\tRed kite\timages/a.png"]
    lines += ["i1\t\timages/none.png", "i2\tMug\timages/broken.png"]
    (folder / "toy.item").write_text("\n".join(lines) + "\n")
    catalog = Catalog(load_config("SASRec", None, (), toy))

    shown = [catalog.item(token, target="i0") for token in ("i0", "i1", "i2", "i7")]

    assert [item.title for item in shown] == ["Red kite", "i1", "Mug", "i7"]
    assert shown[0].picture.startswith("data:image/jpeg;base64,")
    assert [item.picture for item in shown[1:]] == [None] * 3
    assert [item.is_target for item in shown] == [True, False, False, False]


def test_pictures_that_are_outside_of_their_folder_or_have_impossible_names_are_not_shown(
    toy, tmp_path
):
    folder = tmp_path / "dataset/toy"
    Image.new("RGB", (30, 20), "red").save(tmp_path / "secret.png")
    names = ["../../secret.png", str(tmp_path / "secret.png"), "x" * 300 + ".png", "a\\..\\b.png"]
    lines = ["item_id:token\timage:token", *(f"i{n}\t{name}" for n, name in enumerate(names))]
    (folder / "toy.item").write_text("\n".join(lines) + "\n")

    catalog = Catalog(load_config("SASRec", None, (), toy))

    assert [catalog.picture(f"i{n}") for n in range(len(names))] == [None] * len(names)
