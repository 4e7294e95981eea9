import os

import numpy as np
import pytest
from PIL import Image

from recbole_mm.data.errors import DatasetError
from recbole_mm.data.feature_files import write_item_features
from recbole_mm.prepare.baselines import baselines
from recbole_mm.prepare.commands import inspect, prepare
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.inspection import figures
from recbole_mm.prepare.leakage import warnings
from recbole_mm.prepare.prepared import PreparedDataset


def dataset_of(tmp_path, lines, features=None):
    folder = tmp_path / "x"
    folder.mkdir()
    text = "user_id:token\titem_id:token\ttimestamp:float\n"
    (folder / "x.inter").write_text(text + "".join("\t".join(line) + "\n" for line in lines))
    if features is not None:
        tokens = sorted({line[1] for line in lines})
        write_item_features(folder / "x.text.npz", tokens, np.array(features, np.float32))
    return PreparedDataset(tmp_path, "x")


def test_figures_are_counted_by_hand(tmp_path):
    dataset = dataset_of(
        tmp_path,
        [("u", "a", "5"), ("u", "b", "5"), ("u", "a", "7"), ("v", "a", "0"), ("v", "c", "9")],
        [[1, 0], [0, 1], [1, 1]],
    )

    found = figures(dataset)

    assert (found["users"], found["items"], found["interactions"]) == (2, 3, 5)
    assert found["events per user (min, median, mean, max)"] == [2, 2.5, 2.5, 3]
    assert found["repeated user-item pairs"] == 1
    assert found["neighbours of the same time"] == round(1 / 3, 4)
    assert found["times"][0].startswith("1970-01-01T00:00:00")
    assert found["items with text"] == 1


def test_columns_are_found_under_the_names_of_the_user(tmp_path, capsys):
    dataset_of(tmp_path, [("u", "a", "5"), ("u", "b", "7"), ("v", "a", "9")])
    path = tmp_path / "x" / "x.inter"
    expected = figures(PreparedDataset(tmp_path, "x"))
    path.write_text(
        "visit:token\tsku:token\twhen:float\tuser_id:token\n"
        + "".join(f"{line}\tz\n" for line in path.read_text().splitlines()[1:])
    )

    with pytest.raises(InputError, match=r"x.inter: no column \['item_id'\].*--ITEM_ID_FIELD"):
        inspect.main(["x", f"--output={tmp_path}"])
    names = {"USER_ID_FIELD": "visit", "ITEM_ID_FIELD": "sku", "TIME_FIELD": "when"}
    inspect.main(["x", f"--output={tmp_path}", *(f"--{k}={v}" for k, v in names.items())])
    assert "users                                            2\n" in capsys.readouterr().out
    (tmp_path / "x" / "x.yaml").write_text("".join(f"{k}: {v}\n" for k, v in names.items()))
    assert figures(PreparedDataset(tmp_path, "x")) == expected


def test_a_planted_neighbour_is_found_and_popularity_is_not_fooled(tmp_path):
    items = [f"i{n:02d}" for n in range(40)]
    angle = np.arange(40) * 2 * np.pi / 40
    lines = [(f"u{n}", items[(n + k) % 40], str(k)) for n in range(40) for k in range(3)]
    circle = np.stack([np.cos(angle), np.sin(angle)], 1)

    ranked = baselines(dataset_of(tmp_path, lines, circle))

    assert ranked["nearest by text"]["Recall@10"] == 1
    assert ranked["popularity"]["Recall@10"] == 0  # forty level items: the middle of the table


def test_leaks_are_warned_of(tmp_path):
    lines = [("u", "a", "1"), ("u", "b", "2"), ("u", "a", "2"), ("v", "a", "50"), ("v", "c", "51")]
    lines += [("w", "a", "50"), ("w", "b", "51")]

    found = " ".join(warnings(dataset_of(tmp_path, lines, [[1, 0], [1, 0], [0, 1]])))

    for sign in (
        "33.3% of the test items are in the same user's history",
        "33.3% of the test items are not in the training events",
        "33.3% of the test events have the same time as the event before",
        "1 user has the same history as another user",
        "1 item has the text vector of another item (33.3% of those with text): the same product",
    ):
        assert sign in found


def test_equal_rows_are_told_apart(tmp_path):
    found = " ".join(warnings(dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", "2")] * 2)))

    assert "100.0% of the test items are in the same user's history" in found
    assert "100.0% of the test events have the same time as the event before" in found
    assert "not in the training" not in found


def test_a_clean_set_has_no_warning(tmp_path):
    lines = [("u", "a", "1"), ("u", "b", "2"), ("u", "c", "30")]
    lines += [("v", "b", "3"), ("v", "c", "4"), ("v", "a", "31")]

    assert warnings(dataset_of(tmp_path, lines)) == []


@pytest.mark.parametrize("broken", [False, True])
def test_the_command_writes_a_sheet_and_the_card(shop, tmp_path, capsys, broken):
    prepare.main([str(shop), f"--output={tmp_path}/out"])
    if broken:
        (shop / "images" / "a.png").write_text("no picture")

    inspect.main(["shop", f"--output={tmp_path}/out"])

    dataset = PreparedDataset(tmp_path / "out", "shop")
    with Image.open(dataset.path("sheet.png")) as sheet:
        assert sheet.width == 132 * (1 + 3 + 3)
        centre = sheet.convert("RGB").getpixel((66, 18 + 66))
    assert centre != (255, 0, 0) if broken else centre == (255, 0, 0)
    assert dataset.card["inspection"]["figures"]["users"] == 3
    assert "popularity" in capsys.readouterr().out


@pytest.mark.parametrize("time", ["nan", "-1", ""])
def test_times_that_are_not_seconds_are_named_by_their_line(tmp_path, time):
    dataset = dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", time)])

    with pytest.raises(DatasetError, match=r"x.inter: 1 time is missing.*first in row 3"):
        figures(dataset)


def test_times_far_in_the_future_are_shown_as_they_are(tmp_path):
    found = figures(dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", "1e15")]))

    assert found["times"] == ["1970-01-01T00:00:01+00:00", "1000000000000000 s"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("user_id:token\titem_id:token\nu\ta\nv\t\n", "1 row without item_id, the first is row 3"),
        ("user_id:token\titem:token\nu\ta\n", r"no column \['item_id'\], it has"),
    ],
)
def test_a_file_without_a_user_or_item_in_each_row_is_refused(tmp_path, text, words):
    dataset = dataset_of(tmp_path, [("u", "a", "1")])
    dataset.path("inter").write_text(text)

    with pytest.raises(InputError, match=rf"x.inter: {words}"):
        figures(dataset)


def test_a_set_without_features_has_no_sheet(tmp_path):
    dataset = dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", "2")])

    inspect.main(["x", f"--output={tmp_path}"])

    assert not dataset.path("sheet.png").exists()


def test_the_command_shows_dates_and_numbers_as_text(tmp_path, capsys):
    dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", "90000"), ("v", "a", "2")])

    inspect.main(["x", f"--output={tmp_path}"])

    out = capsys.readouterr().out
    assert f"{'times':48} 1970-01-01 to 1970-01-02\n" in out
    assert f"{'events per user (min, median, mean, max)':48} 1, 1.5, 1.5, 2\n" in out


def test_a_share_that_rounds_to_nothing_is_no_warning(tmp_path):
    lines = [(f"u{n}", item, str(time)) for n in range(3000) for time, item in enumerate("ab")]
    repeats = [("again", "a", "0"), ("again", "a", "1")]

    found = " ".join(warnings(dataset_of(tmp_path, lines + repeats)))

    assert "in the same user's history" not in found
    assert "users have the same history" in found


@pytest.mark.parametrize(
    "modality, reason",
    [
        ("text", "products with the same text"),
        ("image", "a placeholder picture"),
        ("audio", "a placeholder"),
    ],
)
def test_equal_vectors_are_explained_by_their_modality(tmp_path, modality, reason):
    dataset = dataset_of(tmp_path, [("u", "a", "1"), ("u", "b", "2")])
    vectors = np.ones((2, 2), np.float32)
    write_item_features(dataset.path(f"{modality}.npz"), ["a", "b"], vectors)

    assert warnings(dataset)[-1] == (
        f"1 item has the {modality} vector of another item (50.0% of those with {modality}): the same "
        f"product under two tokens, or {reason}."
    )


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
def test_pictures_are_named_without_detours_unless_these_lead_through_a_link(tmp_path):
    kept = tmp_path / "disk" / "sets" / "D"
    kept.mkdir(parents=True)
    (kept / "D.inter").write_text("user_id:token\titem_id:token\nu\ta\n")
    (kept / "D.item").write_text("item_id:token\timage:token\na\ta.png\n")
    (kept / "D.card.json").write_text('{"pictures": "../../shop"}')
    (tmp_path / "disk" / "shop").mkdir()
    (tmp_path / "disk" / "shop" / "a.png").write_bytes(b"")
    linked = tmp_path / "dataset" / "D"
    linked.parent.mkdir()
    linked.symlink_to(kept)

    assert PreparedDataset(kept.parent, "D").pictures() == [tmp_path / "disk" / "shop" / "a.png"]
    (through,) = PreparedDataset(linked.parent, "D").pictures()
    assert through.samefile(tmp_path / "disk" / "shop" / "a.png")
