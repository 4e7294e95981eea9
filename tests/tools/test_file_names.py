from pathlib import Path

import pytest

from recbole_mm.tools.file_names import (
    LONGEST_NAME,
    UnsafeName,
    hidden_beside,
    is_portable,
    label_as_name,
    path_inside,
    safe_names,
)

HOSTILE = [
    "../../x", "/etc/passwd", "..", ".", ".hidden", "a/b", "a\\b", "", "a\0b", "a" * 300,
    "C:\\x", "tæst", "a b", "\ud800", "a?", "a*", "a:b", "<a>", "a.", "a ", "CON", "NUL.x", "lpt1",
]  # fmt: skip


def safe_name(token):
    return safe_names([token])[token]


@pytest.mark.parametrize("token", ["B00004W4UP", "0439893577", "a.b-c_D"])
def test_a_plain_token_is_its_own_file_name(token):
    assert safe_name(token) == token


@pytest.mark.parametrize("token", HOSTILE)
def test_any_other_token_becomes_the_name_of_a_file_in_the_same_folder(tmp_path, token):
    path = tmp_path / f"{safe_name(token)}.jpg"
    path.touch()

    assert path.resolve().parent == tmp_path
    assert path.name.isascii()
    assert is_portable(path.name)
    assert not path.name.startswith(".")


def test_different_tokens_have_different_names():
    tokens = [*HOSTILE, "a/b/", "a//b", "a_b", safe_name("a/b")]

    assert len(set(safe_names(tokens).values())) == len(tokens)


def test_tokens_that_differ_in_case_have_names_that_differ_without_it():
    tokens = ["SKU1", "sku1", "Sku1", "sKU1", "sku2"]

    names = safe_names(tokens)

    assert len({name.casefold() for name in names.values()}) == len(tokens)
    assert names["sku2"] == "sku2"


@pytest.mark.parametrize(
    "name",
    ["CON", "con", "Aux.txt", "NUL", "prn.tar.gz", "COM1", "lpt9.inter", "COM²", "con .x", "a.", "a ",
     ".", "..", "", "a:b", "a?", "a*b", "a<b", "a>b", 'a"b', "a|b", "a\\b", "a/b", "a\tb", "é" * 128],
)  # fmt: skip
def test_a_name_that_windows_cannot_give_to_a_file_is_not_portable(name):
    assert not is_portable(name)


@pytest.mark.parametrize(
    "name", ["Shop", "CONTENT", "con1", "COM10", "a.b", ".hidden", "x CON", "é" * 127, "目录"]
)
def test_other_names_are_portable(name):
    assert is_portable(name)


@pytest.mark.parametrize("length", [1, 100, 250, 255])
def test_a_hidden_file_beside_another_one_has_a_name_that_is_not_too_long(tmp_path, length):
    path = tmp_path / ("x" * length)

    hidden = hidden_beside(path, ".lock")

    hidden.touch()
    assert hidden.parent == tmp_path and hidden.name.startswith(".") and hidden.suffix == ".lock"
    assert len(hidden.name) <= LONGEST_NAME
    assert hidden != hidden_beside(path.with_name("y" * length), ".lock")


def test_files_of_a_comparison_fit_into_the_260_characters_of_a_windows_path():
    label = label_as_name("a very long label, " * 100)

    path = f"compare/Video_Games-leave_one_out/runs/{label}-seed2020-0123456789/.ranks.parquet.lock"
    assert len(path) < 200


def test_a_name_means_a_file_in_the_folder_or_below(tmp_path):
    assert path_inside(tmp_path, "images/a.jpg") == tmp_path / "images" / "a.jpg"
    assert path_inside("pictures", "./a b.jpg") == Path("pictures/a b.jpg")


def test_a_device_of_windows_is_not_opened_there(tmp_path, monkeypatch):
    assert path_inside(tmp_path, "images/aux.jpg") == tmp_path / "images" / "aux.jpg"

    monkeypatch.setattr("sys.platform", "win32")
    for name in ("images/aux.jpg", "con", "a.jpg:stream"):
        with pytest.raises(UnsafeName):
            path_inside(tmp_path, name)


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "..\\x", "C:\\x", "C:x", "", ".", "a\0", "a/" + 300 * "b"],
)
def test_a_name_that_leads_out_of_the_folder_or_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(UnsafeName):
        path_inside(tmp_path, name)
