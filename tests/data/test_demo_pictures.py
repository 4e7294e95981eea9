import numpy as np

from recbole_mm.data.demo import KINDS, STYLES
from recbole_mm.data.demo_pictures import LOOKS, SHAPES, SIDE, draw_picture


def test_every_kind_has_a_shape_and_every_style_a_look():
    assert list(SHAPES) == list(KINDS)
    assert list(LOOKS) == list(STYLES)


def test_pictures_of_all_kinds_and_styles_differ():
    pictures = {
        (kind, style): np.asarray(draw_picture(kind, style, np.random.RandomState(0)))
        for kind in SHAPES
        for style in LOOKS
    }

    assert {picture.shape for picture in pictures.values()} == {(SIDE, SIDE, 3)}
    assert len({picture.tobytes() for picture in pictures.values()}) == len(pictures)


def test_the_ground_of_a_plain_style_is_its_color():
    picture = draw_picture("ring", "neon", np.random.RandomState(0))

    assert picture.getpixel((0, 0)) == (0x16, 0x10, 0x2B)
