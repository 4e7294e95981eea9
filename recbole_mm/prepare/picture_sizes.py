"""How many pixels an encoder's image processor makes from a picture, known in advance.

The settings of a processor come with the encoder and the shape of a picture with the data set, and
both may come from a stranger: a processor may enlarge every picture, or a narrow one, without bound.
"""

from collections.abc import Mapping
from typing import Any

MOST_PIXELS = 5_000_000
"""Limit per picture: 60 MB as float32 in three colors; common encoders read up to 1024 x 1024."""

SIZES = ("size", "crop_size", "pad_size", "max_image_size")
SIDES = (("height", "width"), ("max_height", "max_width"))


def pixels_made(processor, width: int, height: int) -> float:
    """Maximum number of pixels that an image processor makes from a picture.

    Args:
        processor: processor of transformers; ``None``: a model without pictures, which makes none.
        width, height: size of the picture.
    """
    ratio = max(width, height) / max(min(width, height), 1)
    by_area = hasattr(type(processor), "merge_size")  # Qwen2-VL and similar models
    sizes = [_mapping(getattr(processor, name, None)) for name in SIZES]
    return max(_pixels(size, ratio, by_area) for size in sizes)


def _mapping(size: Any) -> Mapping[str, Any]:
    """A size as a mapping; an invalid size is empty, and refused when it is used."""
    if isinstance(size, (int, float)):
        return {"height": size, "width": size}
    return size if isinstance(size, Mapping) else getattr(size, "__dict__", {})


def _pixels(size: Mapping[str, Any], ratio: float, by_area: bool) -> float:
    edges = {name: value for name, value in size.items() if isinstance(value, (int, float))}
    fixed = max(edges.get(height, 0) * edges.get(width, 0) for height, width in SIDES)
    shortest, longest = edges.get("shortest_edge", 0), edges.get("longest_edge", 0)
    if by_area:  # edges are numbers of pixels: a smaller picture is enlarged to the lower one
        return max(fixed, shortest, edges.get("min_pixels", 0))
    if not shortest:
        return max(fixed, longest**2)
    long = shortest * ratio
    return max(fixed, shortest * long if not longest else min(shortest * long, longest**2 / ratio))
