"""Text in pictures: the font that has its letters, and letters that no font has."""

import contextlib
import textwrap
import unicodedata
from collections.abc import Iterator

from PIL import ImageFont

FONTS = (
    "DejaVuSans.ttf", "Arial.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "Helvetica.ttc",
    "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "msyh.ttc",
)  # fmt: skip
"""Fonts of Linux, macOS and Windows, by the names under which Pillow finds them."""
NARROWEST = 3
"""Width of the narrowest letter, in pixels."""
NO_LETTER = "\uffff"
"""Character that every font draws as a box."""
SPELT_OUT = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "Æ": "AE", "Ø": "O", "Ł": "L"}
)
"""Letters that are not another letter with a mark."""


class Lettering:
    """The font that has most of the letters of some texts; Pillow's own if it has them all.

    Args:
        texts: texts to draw.
        size: font size in pixels.
    """

    def __init__(self, texts: list[str], size: int):
        letters = sorted(set(_one_line(" ".join(texts))))
        self.font = max(_fonts(size), key=lambda font: sum(has(font, x) for x in letters))
        self._drawn = {letter: _drawn(self.font, letter) for letter in letters}

    def lines(self, text: str, width: int, n: int) -> str:
        """The first lines of a text, in letters of the font, none wider than ``width`` pixels."""
        drawn = "".join(self._drawn[letter] for letter in _one_line(text))
        for length in range(width // NARROWEST, 0, -1):
            lines = textwrap.wrap(drawn, length)[:n]
            if all(self.font.getlength(line) <= width for line in lines):
                break
        return "\n".join(lines)


def has(font, letter: str) -> bool:
    """Whether a font has a letter."""
    return bytes(font.getmask(letter)) != bytes(font.getmask(NO_LETTER))


def _one_line(text: str) -> str:
    """Blanks and line breaks as one blank each, a letter and its mark as one letter."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _fonts(size: int) -> Iterator:
    yield ImageFont.load_default(size)
    for name in FONTS:
        with contextlib.suppress(OSError):  # not on this machine
            yield ImageFont.truetype(name, size)


def _drawn(font, letter: str) -> str:
    """A letter of the font: itself, without its marks, or a question mark."""
    if has(font, letter):
        return letter
    parts = unicodedata.normalize("NFKD", letter.translate(SPELT_OUT))
    plain = "".join(part for part in parts if not unicodedata.combining(part))
    return plain if plain and all(has(font, part) for part in plain) else "?"
