"""Cells of a table as text."""

import polars as pl


def text_of(column: pl.Expr, dtype) -> pl.Expr:
    """A column of any type as text, without surrounding blanks.

    Whole numbers in a column of floats are written as integers: pandas turns integers into floats
    where one is missing.

    Args:
        column: column to convert.
        dtype: data type of the column.
    """
    text = column.cast(pl.String).str.strip_chars()
    if not dtype.is_float():
        return text
    integer = column.cast(pl.Int64, strict=False)
    return pl.when(column == integer).then(integer.cast(pl.String)).otherwise(text)
