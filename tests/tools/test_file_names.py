from pathlib import Path

import pytest

from recbole_mm.tools.file_names import UnsafeName, path_inside, safe_name

HOSTILE = [
    "../../x", "/etc/passwd", "..", ".", ".hidden", "a/b", "a\\b", "", "a\0b", "a" * 300,
    "C:\\x", "tæst", "a b", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("token", ["B00004W4UP", "0439893577", "a.b-c_d"])
def test_a_plain_token_is_its_own_file_name(token):
    assert safe_name(token) == token


@pytest.mark.parametrize("token", HOSTILE)
def test_any_other_token_becomes_the_name_of_a_file_in_the_same_folder(tmp_path, token):
    path = tmp_path / f"{safe_name(token)}.jpg"
    path.touch()

    assert path.resolve().parent == tmp_path
    assert path.name.isascii()
    assert not path.name.startswith(".")


def test_different_tokens_have_different_names():
    tokens = [*HOSTILE, "a/b/", "a//b", "a_b", safe_name("a/b")]

    assert len({safe_name(token) for token in tokens}) == len(tokens)


def test_a_name_means_a_file_in_the_folder_or_below(tmp_path):
    assert path_inside(tmp_path, "images/a.jpg") == tmp_path / "images" / "a.jpg"
    assert path_inside("pictures", "./a b.jpg") == Path("pictures/a b.jpg")


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../x", "a/../../x", "..\\x", "C:\\x", "C:x", "", ".", "a\0", "a/" + 300 * "b"],
)
def test_a_name_that_leads_out_of_the_folder_or_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(UnsafeName):
        path_inside(tmp_path, name)
