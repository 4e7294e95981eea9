r"""Pictures of the demo data set: an item's shape in the colors and the texture of its style."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

SIDE = 96
LARGER = 3  # drawn at a multiple of the size and reduced, for smooth edges


class Look(NamedTuple):
    """Colors and texture of a style."""

    ground: str
    inks: tuple[str, str]
    texture: str


LOOKS = {
    "rustic": Look("#e9dcc3", ("#7a4b22", "#b58048"), "grain"),
    "neon": Look("#16102b", ("#ff2fa8", "#2ff3ff"), "plain"),
    "nordic": Look("#f6f7f8", ("#5f7a8c", "#b9c7cf"), "plain"),
    "tropical": Look("#fff0b8", ("#0f9d58", "#ff8a2b"), "dots"),
    "vintage": Look("#d9c7a0", ("#8a2f2f", "#3e5a4f"), "stripes"),
    "marine": Look("#d7ecf7", ("#12395c", "#c8313b"), "stripes"),
    "candy": Look("#ffe3ef", ("#f28ab2", "#9a7fd1"), "dots"),
    "gothic": Look("#3a3740", ("#0d0b10", "#7d1531"), "grain"),
}
"""Colors and texture of each style, by name."""


def draw_picture(kind: str, style: str, random: np.random.RandomState) -> Image.Image:
    """Draw a picture of ``SIDE x SIDE`` pixels, with the shape at a random position, size and
    angle.

    Args:
        kind: one of :data:`SHAPES`.
        style: one of :data:`LOOKS`.
        random: random number generator, which is advanced.
    """
    look = LOOKS[style]
    first, second = look.inks if random.rand() < 0.7 else look.inks[::-1]
    side = SIDE * LARGER
    picture = Image.new("RGB", (side, side), look.ground)
    _draw_texture(ImageDraw.Draw(picture), look.texture, side, second, random)

    shape = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    SHAPES[kind](Pen(ImageDraw.Draw(shape), side, first, second))
    size = int(side * random.uniform(0.62, 0.85))
    angle = random.uniform(-14, 14)
    shape = shape.resize((size, size)).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    room = max(side - shape.width, 1)
    place = (random.randint(room), random.randint(room))
    picture.paste(shape, place, shape)
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def _draw_texture(draw, texture: str, side: int, ink: str, random) -> None:
    step = side // 8
    if texture == "stripes":
        for x in range(-random.randint(step), side, 2 * step):
            draw.rectangle([x, 0, x + step // 3, side], fill=ink)
    elif texture == "dots":
        for x in range(step // 2, side, step):
            for y in range(step // 2, side, step):
                draw.ellipse([x, y, x + step // 4, y + step // 4], fill=ink)
    elif texture == "grain":
        for _ in range(40):
            x, y = random.randint(side, size=2)
            draw.line([x, y, x + step, y + step // 4], fill=ink, width=2)


class Pen(NamedTuple):
    """Draws on a square in two inks.

    Attributes:
        draw: Pillow's drawing object.
        side: side of the square, in pixels.
        first, second: the two inks.
    """

    draw: ImageDraw.ImageDraw
    side: int
    first: str
    second: str

    @property
    def thickness(self) -> int:
        """Thickness of a thick line, in pixels."""
        return self.side // 14

    def at(self, *shares: float) -> list[float]:
        """Coordinates in pixels from shares of the side."""
        return [share * self.side for share in shares]


def _mug(pen: Pen) -> None:
    pen.draw.rounded_rectangle(pen.at(0.15, 0.2, 0.68, 0.9), pen.side // 12, fill=pen.first)
    pen.draw.arc(pen.at(0.5, 0.35, 0.92, 0.75), -90, 90, fill=pen.first, width=pen.thickness)
    pen.draw.rectangle(pen.at(0.15, 0.42, 0.68, 0.52), fill=pen.second)


def _lamp(pen: Pen) -> None:
    pen.draw.polygon(pen.at(0.35, 0.1, 0.65, 0.1, 0.88, 0.5, 0.12, 0.5), fill=pen.first)
    pen.draw.rectangle(pen.at(0.46, 0.5, 0.54, 0.85), fill=pen.second)
    pen.draw.ellipse(pen.at(0.28, 0.8, 0.72, 0.95), fill=pen.first)


def _kite(pen: Pen) -> None:
    pen.draw.polygon(pen.at(0.5, 0.02, 0.85, 0.38, 0.5, 0.8, 0.15, 0.38), fill=pen.first)
    pen.draw.line(pen.at(0.5, 0.02, 0.5, 0.98), fill=pen.second, width=pen.thickness // 2)
    pen.draw.line(pen.at(0.15, 0.38, 0.85, 0.38), fill=pen.second, width=pen.thickness // 2)


def _clock(pen: Pen) -> None:
    pen.draw.ellipse(pen.at(0.08, 0.08, 0.92, 0.92), fill=pen.first)
    pen.draw.ellipse(pen.at(0.18, 0.18, 0.82, 0.82), fill=pen.second)
    pen.draw.line(pen.at(0.5, 0.5, 0.5, 0.24), fill=pen.first, width=pen.thickness)
    pen.draw.line(pen.at(0.5, 0.5, 0.7, 0.6), fill=pen.first, width=pen.thickness)


def _house(pen: Pen) -> None:
    pen.draw.polygon(pen.at(0.05, 0.45, 0.5, 0.05, 0.95, 0.45), fill=pen.second)
    pen.draw.rectangle(pen.at(0.18, 0.45, 0.82, 0.95), fill=pen.first)
    pen.draw.rectangle(pen.at(0.42, 0.65, 0.58, 0.95), fill=pen.second)


def _star(pen: Pen) -> None:
    corner = np.arange(10) * np.pi / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 0.19, 0.48)
    x, y = 0.5 + radius * np.cos(corner), 0.5 + radius * np.sin(corner)
    corners = pen.at(*np.stack([x, y], 1).ravel())
    pen.draw.polygon(corners, fill=pen.first, outline=pen.second, width=pen.thickness // 2)


def _ring(pen: Pen) -> None:
    pen.draw.ellipse(pen.at(0.08, 0.08, 0.92, 0.92), outline=pen.first, width=2 * pen.thickness)
    pen.draw.ellipse(pen.at(0.42, 0.0, 0.58, 0.16), fill=pen.second)


def _ladder(pen: Pen) -> None:
    for x in (0.25, 0.68):
        pen.draw.rectangle(pen.at(x, 0.02, x + 0.08, 0.98), fill=pen.first)
    for y in (0.15, 0.35, 0.55, 0.75):
        pen.draw.rectangle(pen.at(0.25, y, 0.76, y + 0.07), fill=pen.second)


def _cross(pen: Pen) -> None:
    pen.draw.rectangle(pen.at(0.36, 0.05, 0.64, 0.95), fill=pen.first)
    pen.draw.rectangle(pen.at(0.05, 0.36, 0.95, 0.64), fill=pen.first)
    pen.draw.ellipse(pen.at(0.4, 0.4, 0.6, 0.6), fill=pen.second)


def _moon(pen: Pen) -> None:
    pen.draw.ellipse(pen.at(0.08, 0.08, 0.92, 0.92), fill=pen.first)
    pen.draw.ellipse(pen.at(0.34, 0.0, 1.06, 0.78), fill=(0, 0, 0, 0))


SHAPES: dict[str, Callable[[Pen], None]] = {
    "mug": _mug,
    "lamp": _lamp,
    "kite": _kite,
    "clock": _clock,
    "house": _house,
    "star": _star,
    "ring": _ring,
    "ladder": _ladder,
    "cross": _cross,
    "moon": _moon,
}
"""Functions that draw each kind of item."""
