"""Paths for libraries that expect patterns."""

import glob


def pattern_of(path) -> str:
    """The pattern that matches only this file, since polars expands ``*``, ``?`` and ``[`` in
    paths."""
    return glob.escape(str(path))
