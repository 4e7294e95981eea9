import pytest
from PIL import ImageFont

from recbole_mm.prepare import fonts
from recbole_mm.prepare.fonts import Lettering, has

TITLES = ["Brötchenkorb, Größe 2", "Crème brûlée"]


def test_the_font_of_pillow_draws_what_it_has():
    assert Lettering(["Tea pot"], 10).font.getname() == ImageFont.load_default(10).getname()


def test_a_font_of_the_system_draws_letters_with_marks():
    lettering = Lettering(TITLES, 10)
    if lettering.font.getname() == ImageFont.load_default(10).getname():
        pytest.skip("no other font is installed")

    assert all(has(lettering.font, letter) for letter in "öüßèû")
    assert lettering.lines(TITLES[1], 200, 1) == TITLES[1]


@pytest.mark.parametrize(
    "title, drawn",
    [
        ("Größe", "Grosse"),
        ("Cre\u0300me", "Creme"),
        ("Ærø łódź", "AEro lodz"),
        ("抹茶 tea", "?? tea"),
        ("a\tb\nc", "a b c"),
    ],
)
def test_without_such_a_font_letters_lose_their_marks(monkeypatch, title, drawn):
    monkeypatch.setattr(fonts, "FONTS", ())

    assert Lettering([title], 10).lines(title, 200, 1) == drawn


@pytest.mark.parametrize("title", ["W" * 60, "a tea pot of many words and colours", "iiii " * 30])
def test_lines_are_as_wide_as_their_place(title):
    lettering = Lettering([title], 10)

    lines = lettering.lines(title, 124, 3).split("\n")

    assert len(lines) <= 3
    assert 60 < max(map(lettering.font.getlength, lines)) <= 124
