"""The only place where external pictures are opened, with limits on formats and pixels."""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from recbole_mm.tools.errors import UserError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PPM", "TGA")
"""Formats that Pillow decodes by itself, regardless of the file name; EPS, for example, would start
another program. Some installations of Pillow lack some of them."""

MAX_PIXELS = 50_000_000
"""Maximum number of pixels, 150 MB as RGB; several pictures are decoded at a time."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What sets a picture upright, by its EXIF orientation."""

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower

PICTURE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""Errors that :func:`open_picture`, and decoding its result, may raise for a file that is not a
picture."""


class PictureError(UserError):
    """A picture that cannot be read; the message names the file and the reason."""


def picture_suffixes() -> set[str]:
    """Endings of picture files that this Pillow can open, in lower case: ``.jpg``, ``.png``, ..."""
    formats = _formats()
    return {ending for ending, kind in Image.registered_extensions().items() if kind in formats}


def _formats() -> list[str]:
    Image.init()
    return [kind for kind in FORMATS if kind in Image.OPEN]


@contextlib.contextmanager
def open_picture(file) -> Iterator[Image.Image]:
    """Open a picture and check its format and size, without decoding its pixels.

    Args:
        file: a path, or an open binary file.

    Raises:
        OSError: the file is missing, or not a picture in one of :data:`FORMATS`.
        ValueError: the picture has more than :data:`MAX_PIXELS` pixels.
    """
    with Image.open(file, formats=_formats()) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(
                f"{width} x {height} pixels; the limit is {MAX_PIXELS:,}: scale the picture down"
            )
        yield picture


def read_picture(path, side: int | None = None) -> Image.Image:
    """Read a picture file as RGB, with transparent parts in white.

    Args:
        path: path of the file.
        side: minimum length in pixels of each side of a JPEG that is decoded at a reduced size;
            ``None``: full size.

    Raises:
        PictureError: the file is missing, damaged, too large, or not in one of :data:`FORMATS`.
    """
    try:
        with open_picture(path) as opened:
            if side is not None:
                opened.draft("RGB", (side, side))
            return _upright(opened, on_white(opened))
    except Exception as error:  # decoders may raise anything for damaged files
        raise PictureError(f"{path}: {_reason(error)}") from error


def _upright(opened: Image.Image, pixels: Image.Image) -> Image.Image:
    """The pixels of a picture as its EXIF data say that it is held; damaged EXIF data do not count."""
    try:
        turn = TURNS.get(opened.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 Pillow's parsers may raise anything for damaged EXIF data
        turn = None
    return pixels if turn is None else pixels.transpose(turn)


def _reason(error: Exception) -> str:
    """A description of why a picture cannot be read."""
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture in a known format ({', '.join(_formats())}), or a damaged one"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or f"damaged ({type(error).__name__})"


def on_white(image: Image.Image) -> Image.Image:
    """The picture as RGB, with transparent parts in white and gray levels rounded to 8 bits."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode[0] in "IF":
        return _in_eight_bits(image).convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Convert gray levels of 16 bits (modes ``I;16``), 32 bits (``I``) or floats (``F``) to 0 to
    255.

    White is 65535 in 16 bits. In the other modes, files do not define the white level: it is the
    smallest of 1, 255, 65535 and the picture's largest level that no level exceeds.
    """
    levels = np.nan_to_num(np.asarray(image).astype(np.float64))
    white = 65535.0
    if ";16" not in image.mode:
        highest = levels.max(initial=0.0)
        white = next((top for top in (1.0, 255.0, 65535.0) if highest <= top), highest)
    return Image.fromarray(np.clip(np.rint(levels / white * 255), 0, 255).astype(np.uint8))
