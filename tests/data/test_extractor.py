import numpy as np
import pytest
from PIL import Image

from recbole_mm.data.extractor import embed_images, embed_texts, image_statistics
from recbole_mm.tools.pictures import PictureError


def nearest(vectors):
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -2)
    return similarity.argmax(1).tolist()


def test_texts_that_share_words_are_neighbours():
    texts = ["red wooden train", "wooden train track", "space rocket kit", "rocket to space"]

    assert nearest(embed_texts(texts, dimension=4)) == [1, 0, 3, 2]


def test_spelling_variants_are_neighbours():
    texts = ["microphone stand", "microphones", "guitar strings", "guitarstring"]

    assert nearest(embed_texts(texts, dimension=4)) == [1, 0, 3, 2]


def test_an_empty_text_is_a_zero_row():
    vectors = embed_texts(["a red ball", "", "a red kite"], dimension=3)

    assert np.linalg.norm(vectors, axis=1).round(5).tolist() == [1, 0, 1]


@pytest.mark.parametrize("texts", [["one"], ["", ""], ["same", "same"]])
def test_the_width_is_the_one_asked_for_however_few_texts(texts):
    vectors = embed_texts(texts, dimension=16)

    assert vectors.shape == (len(texts), 16)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_the_same_input_gives_the_same_vectors():
    texts = [f"item {n} of style {n % 3}" for n in range(50)]

    assert (embed_texts(texts, 8) == embed_texts(texts, 8)).all()


def red_and_blue():
    pictures = []
    for color in ("red", "blue"):
        for side in (40, 90):
            pictures.append(Image.new("RGB", (side, side), color))
    return pictures


def test_pictures_of_one_color_are_neighbours_whatever_their_size():
    assert nearest(embed_images(red_and_blue(), dimension=4)) == [1, 0, 3, 2]


def test_a_path_and_its_picture_have_the_same_statistics(tmp_path):
    random = np.random.RandomState(0)
    picture = Image.fromarray(random.randint(0, 256, (30, 50, 3), dtype=np.uint8))
    picture.save(tmp_path / "a.png")

    assert (image_statistics(tmp_path / "a.png") == image_statistics(picture)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_picture_has_statistics(mode):
    assert image_statistics(Image.new(mode, (7, 5))).shape == (313,)


def test_transparent_counts_as_white():
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))

    assert (image_statistics(clear) == image_statistics(Image.new("RGB", (8, 8), "white"))).all()


def test_a_broken_picture_raises(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")

    with pytest.raises(PictureError, match=r"broken.jpg: "):
        embed_images([tmp_path / "broken.jpg"])
