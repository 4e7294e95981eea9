import polars as pl
import pytest

from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.item_pictures import find_pictures, inside

ITEMS = pl.Series(["a", "b.c", "d"])


@pytest.mark.parametrize("ending", ["jpg", "JPG", "Png", "bmp", "TIFF", "webp", "gif"])
def test_pictures_of_any_ending_and_case_are_found_by_the_name_of_their_item(tmp_path, ending):
    for name in (f"a.{ending}", f"b.c.{ending}", "other.jpg", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.png").mkdir()

    assert find_pictures(tmp_path, ITEMS).to_list() == [f"a.{ending}", f"b.c.{ending}", None]


@pytest.mark.parametrize("second", ["a.png", "a.JPG"])
def test_two_pictures_of_one_item_are_named(tmp_path, second):
    for name in ("a.jpg", second):
        (tmp_path / name).touch()

    first, last = sorted(["a.jpg", second])
    with pytest.raises(InputError, match=f"item 'a' has two pictures, {first} and {last}"):
        find_pictures(tmp_path, ITEMS)


def test_a_folder_without_a_picture_of_an_item_is_refused_if_it_was_named(tmp_path):
    (tmp_path / "other.jpg").touch()

    with pytest.raises(InputError, match=r"no picture is named after an item, as in a.jpg"):
        find_pictures(tmp_path, ITEMS)
    assert find_pictures(tmp_path, ITEMS, required=False).to_list() == [None] * 3


def test_paths_of_pictures_stay_in_their_folder(tmp_path, capsys):
    paths = ["x/a.jpg", f"{tmp_path}/y/b c.jpg", None, " ", "x/../d.png"]
    outside = ["../other/secret.png", "/etc/passwd.png", "x/../../other/e.png"]

    relative = inside(tmp_path, tmp_path, pl.Series(paths + outside))

    assert relative.to_list() == ["x/a.jpg", "y/b c.jpg", None, None, "d.png", None, None, None]
    reported = capsys.readouterr().out
    assert f"3 pictures outside the folder {tmp_path}, e.g. '../other/secret.png'" in reported


def test_pictures_in_another_folder_are_read_if_it_is_named(tmp_path, capsys):
    table, pictures = tmp_path / "part", tmp_path / "whole" / "images"
    paths = pl.Series(["../whole/images/a.jpg", "../whole/images/x/b.jpg", "c.jpg"])

    assert inside(table, table, paths).to_list() == [None, None, "c.jpg"]
    assert f"name their folder: --images={pictures}" in capsys.readouterr().out
    assert inside(pictures, table, paths).to_list() == ["a.jpg", "x/b.jpg", "c.jpg"]
    assert inside(tmp_path / "whole", table, paths)[0] == "images/a.jpg"
