"""Paths for libraries that take patterns."""

import glob


def pattern_of(path) -> str:
    """The pattern that matches this file alone: polars expands ``*``, ``?`` and ``[`` in paths."""
    return glob.escape(str(path))
