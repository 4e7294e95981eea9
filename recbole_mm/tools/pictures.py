"""Pictures from outside are opened here and nowhere else: few formats, no more pixels than fit."""

import contextlib
import warnings
from collections.abc import Iterator

from PIL import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
"""What Pillow decodes by itself; EPS, for one, would start another program."""

MAX_PIXELS = 50_000_000
"""150 MB as RGB; several pictures are decoded at a time."""

warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower

PICTURE_ERRORS = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What :func:`open_picture`, and decoding what it gives, may raise for a file that is no picture."""


@contextlib.contextmanager
def open_picture(file) -> Iterator[Image.Image]:
    """A picture whose format and size are checked and whose pixels are not yet decoded.

    Args:
        file: a path, or an open binary file.

    Raises:
        OSError: no file, or not a picture in one of :data:`FORMATS`.
        ValueError: more than :data:`MAX_PIXELS` pixels.
    """
    with Image.open(file, formats=FORMATS) as picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise ValueError(
                f"{width} x {height} pixels; the limit is {MAX_PIXELS:,}: scale the picture down"
            )
        yield picture
