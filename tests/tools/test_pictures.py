import struct
import zlib

import pytest
from PIL import Image

from recbole_mm.tools import pictures
from recbole_mm.tools.pictures import MAX_PIXELS, PICTURE_ERRORS, open_picture


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
