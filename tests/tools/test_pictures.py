import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from recbole_mm.tools import pictures
from recbole_mm.tools.pictures import (
    MAX_PIXELS,
    PICTURE_ERRORS,
    PictureError,
    on_white,
    open_picture,
    picture_suffixes,
    read_picture,
)


def png(width: int, height: int) -> bytes:
    """A black PNG of one bit per pixel."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    rows = (b"\0" * (1 + (width + 7) // 8)) * height
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows, 9)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "webp", "bmp", "tiff"])
def test_pictures_of_the_usual_formats_open(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (3, 2), "red").save(path)

    with open_picture(path) as picture:
        assert picture.convert("RGB").size == (3, 2)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "bomb.png"
    path.write_bytes(png(8000, 8000))  # below the limit at which Pillow itself refuses
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))

    limit = f"8000 x 8000 pixels; the limit is {MAX_PIXELS:,}"
    with pytest.raises(ValueError, match=limit), open_picture(path):
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        b"",
        b"GIF89a",
        b"DDS |\0\0\0" + bytes(120),
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ],
)
def test_other_formats_and_broken_files_are_refused(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)

    with pytest.raises(PICTURE_ERRORS), open_picture(path) as picture:
        picture.load()


def test_every_picture_is_opened_here(repository):
    calls = {
        path.relative_to(repository).as_posix()
        for path in (repository / "recbole_mm").rglob("*.py")
        if "Image.open(" in path.read_text()
    }

    assert calls == {"recbole_mm/tools/pictures.py"}
    assert "EPS" not in pictures.FORMATS


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize(
    "levels",
    [
        RAMP.astype(np.uint16) * 257,
        (RAMP.astype(">u2") * 257).astype(">u2"),
        RAMP.astype(np.int32) * 257,
        RAMP.astype(np.int32),
        RAMP.astype(np.float32) / 255,
        RAMP.astype(np.float32),
    ],
    ids=["I;16", "I;16B", "I, 16 bits used", "I, 8 bits used", "F to 1", "F to 255"],
)
def test_gray_levels_of_more_than_eight_bits_keep_their_share_of_white(levels):
    seen = np.asarray(on_white(Image.fromarray(levels)))

    assert seen.shape == (16, 16, 3)
    assert (seen == RAMP[..., None]).all()


def test_a_png_of_sixteen_bits_is_read_as_one_of_eight(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(RAMP).save(tmp_path / "flat.png")

    deep, flat = (np.asarray(read_picture(tmp_path / f"{name}.png")) for name in ("deep", "flat"))

    assert (deep == flat).all()


def test_a_float_picture_with_holes_is_read(tmp_path):
    Image.fromarray(np.array([[np.nan, 0.5], [1, 0]], np.float32)).save(tmp_path / "a.tiff")

    assert np.asarray(read_picture(tmp_path / "a.tiff"))[..., 0].tolist() == [[0, 128], [255, 0]]


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff"])
def test_common_endings_are_known_in_lower_case(ending):
    assert ending in picture_suffixes()


@pytest.mark.parametrize("name", ["a.eps", "a.png"])
def test_a_format_that_starts_a_program_is_not_opened_whatever_its_name(tmp_path, name):
    Image.new("RGB", (4, 4)).save(tmp_path / name, "EPS")

    assert ".eps" not in picture_suffixes()
    with pytest.raises(PictureError, match=rf"{name}: not a picture in a known format \(JPEG, "):
        read_picture(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_a_file_that_is_not_a_picture_is_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)

    with pytest.raises(PictureError, match=r"a\.png: "):
        read_picture(tmp_path / "a.png")
    with pytest.raises(PictureError, match=r"b\.png: No such file or directory"):
        read_picture(tmp_path / "b.png")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("side", [None, 8])
def test_a_picture_is_turned_as_its_exif_data_say(tmp_path, orientation, side):
    upright = Image.new("RGB", (64, 32), "white")
    upright.paste("red", (0, 0, 16, 16))
    turned_back = {6: 8, 8: 6}.get(orientation, orientation)
    stored = upright if orientation == 1 else upright.transpose(pictures.TURNS[turned_back])
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)

    read = read_picture(tmp_path / "a.jpg", side)

    red, green, _ = read.resize((64, 32)).getpixel((4, 4))
    assert read.width == 2 * read.height
    assert red > 200
    assert green < 100


def test_damaged_exif_data_do_not_matter(tmp_path, monkeypatch):
    Image.new("RGB", (4, 2), "red").save(tmp_path / "a.png")

    def fail(_):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)

    assert read_picture(tmp_path / "a.png").size == (4, 2)
