import numpy as np
import pytest
from PIL import Image

from recbole_mm.data.extractor import Space, fit_statistics, fit_texts, image_statistics
from recbole_mm.tools.pictures import PictureError


def embed_texts(texts, dimension):
    return fit_texts(texts, dimension)[0]


def embed_images(images, dimension):
    return fit_statistics(np.stack([image_statistics(image) for image in images]), dimension)[0]


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
        image_statistics(tmp_path / "broken.jpg")


@pytest.mark.parametrize("n", [1, 5, 60])
def test_a_kept_space_gives_every_text_its_vector_again(n):
    texts = [f"item {i} of style {i % 3} by maker {i % 7}" for i in range(n)]
    vectors, space = fit_texts(texts, dimension=8)

    kept = Space.from_arrays(space.to_arrays())

    np.testing.assert_allclose(space.embed_texts(texts), vectors, atol=1e-6)
    np.testing.assert_allclose(kept.embed_texts(texts), vectors, atol=2e-3)


def test_a_new_text_is_put_beside_those_that_share_its_words():
    texts = ["red wooden train", "wooden train track", "space rocket kit", "rocket to space"]
    vectors, space = fit_texts(texts, dimension=4)

    new = space.embed_texts(["a red wooden train", "space rocket", "", "xyzzy"])

    assert (new @ vectors.T).argmax(1)[:2].tolist() == [0, 2]
    assert np.linalg.norm(new, axis=1).round(4).tolist() == [1, 1, 0, 0]


def test_a_kept_space_gives_every_picture_its_vector_again():
    random = np.random.RandomState(0)
    statistics = random.random((20, 313)).astype(np.float32)
    vectors, space = fit_statistics(statistics, dimension=8)

    kept = Space.from_arrays(space.to_arrays())

    np.testing.assert_allclose(space.embed_statistics(statistics), vectors, atol=1e-5)
    np.testing.assert_allclose(kept.embed_statistics(statistics), vectors, atol=2e-3)


@pytest.mark.parametrize("missing", ["axes", "columns_0", "weights_1"])
def test_arrays_that_are_not_a_space_are_refused(missing):
    arrays = fit_texts(["one text", "two texts"], dimension=2)[1].to_arrays()
    del arrays[missing]

    with pytest.raises(ValueError, match="the arrays of a space do not fit together"):
        Space.from_arrays(arrays)
