"""Pictures from outside are opened here and nowhere else: few formats, no more pixels than fit."""

import contextlib
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, UnidentifiedImageError

from recbole_mm.tools.errors import UserError

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "JPEG2000", "ICO", "PPM", "TGA")
"""What Pillow decodes by itself, whatever the name of a file says; EPS, for one, would start another
program. Some installations of Pillow lack some of them."""

MAX_PIXELS = 50_000_000
"""150 MB as RGB; several pictures are decoded at a time."""

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower

PICTURE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What :func:`open_picture`, and decoding what it gives, may raise for a file that is not a picture."""


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
    """A picture whose format and size are checked and whose pixels are not yet decoded.

    Args:
        file: a path, or an open binary file.

    Raises:
        OSError: no file, or not a picture in one of :data:`FORMATS`.
        ValueError: more than :data:`MAX_PIXELS` pixels.
    """
    with Image.open(file, formats=_formats()) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(
                f"{width} x {height} pixels; the limit is {MAX_PIXELS:,}: scale the picture down"
            )
        yield picture


def read_picture(path, side: int | None = None) -> Image.Image:
    """A picture file in RGB, its transparent parts white.

    Args:
        path: of the file.
        side: a JPEG may be decoded at a reduced size, with no side shorter than this many pixels.

    Raises:
        PictureError: the file is missing, damaged, too large, or not in one of :data:`FORMATS`.
    """
    try:
        with open_picture(path) as opened:
            if side is not None:
                opened.draft("RGB", (side, side))
            return on_white(opened)
    except Exception as error:  # decoders of damaged files raise whatever they like
        raise PictureError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why a picture cannot be read, in words."""
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture in a known format ({', '.join(_formats())}), or a damaged one"
    reason = error.strerror if isinstance(error, OSError) else None
    return reason or str(error) or f"damaged ({type(error).__name__})"


def on_white(image: Image.Image) -> Image.Image:
    """The picture in RGB, its transparent parts white, gray levels of more than 8 bits rounded."""
    if image.mode == "RGB":
        return image.copy()
    if image.mode[0] in "IF":
        return _in_eight_bits(image).convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Gray levels of 16 bits (modes ``I;16``), 32 bits (``I``) or as floats (``F``) as 0 to 255.

    White is 65535 in 16 bits. In the other modes no file says which level is white: it is the
    smallest of 1, 255, 65535 and the largest level of the picture that no level exceeds.
    """
    levels = np.nan_to_num(np.asarray(image).astype(np.float64))
    white = 65535.0
    if ";16" not in image.mode:
        highest = levels.max(initial=0.0)
        white = next((top for top in (1.0, 255.0, 65535.0) if highest <= top), highest)
    return Image.fromarray(np.clip(np.rint(levels / white * 255), 0, 255).astype(np.uint8))
