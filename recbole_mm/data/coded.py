"""Text columns as numbers: the code of each row, and the distinct texts that the codes stand
for."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import polars as pl

from recbole_mm.data.atomic_files import AtomicFile, Column

MISSING = -1


class CodedTexts(NamedTuple):
    """A column of texts.

    Attributes:
        codes: index of each row's text in ``texts``, ``(N,)`` int32; -1 if it is missing.
        texts: distinct texts, in the order of their first occurrence.
    """

    codes: np.ndarray
    texts: list[str]

    def categorical(self) -> pd.Categorical:
        dtype = pd.CategoricalDtype(pd.Index(self.texts, dtype=object))
        return pd.Categorical.from_codes(self.codes, dtype=dtype)

    def rows(self, values: list, missing) -> list:
        """The value of each row's text.

        Args:
            values: value of each distinct text.
            missing: value of rows without a text.
        """
        return [values[code] if code >= 0 else missing for code in self.codes.tolist()]


class CodedTable(NamedTuple):
    """Columns of an atomic file.

    Attributes:
        header: all columns of the file.
        values: columns that were read, in the order of the file: float64 for ``float``,
            :class:`CodedTexts` for all others.
    """

    header: list[Column]
    values: dict[str, np.ndarray | CodedTexts]


def coded_table(file: AtomicFile, names: list[str]) -> CodedTable:
    """Read columns of an atomic file.

    Raises:
        DatasetError: see :meth:`~recbole_mm.data.atomic_files.AtomicFile.cells`.
    """
    values = {
        cells.name: cells.to_numpy() if cells.dtype == pl.Float64 else coded_texts(cells)
        for cells in file.cells(names)
    }
    return CodedTable(file.columns, values)


def coded_texts(cells: pl.Series) -> CodedTexts:
    """The codes of strings; null is a missing text."""
    if cells.null_count():
        present = coded_texts(cells.drop_nulls())
        codes = np.full(len(cells), MISSING, dtype=np.int32)
        codes[cells.is_not_null().to_numpy()] = present.codes
        return CodedTexts(codes, present.texts)
    codes = pd.factorize(hashes(cells))[0]
    seen = np.maximum.accumulate(codes)
    distinct = cells.gather(np.flatnonzero(np.diff(seen, prepend=MISSING)))
    if distinct.gather(codes).equals(cells):
        return CodedTexts(codes.astype(np.int32), distinct.to_list())
    codes, texts = pd.factorize(np.array(cells.to_list(), dtype=object))  # texts share a hash
    return CodedTexts(codes.astype(np.int32), texts.tolist())


def hashes(cells: pl.Series) -> np.ndarray:
    """Numbers that are equal for equal strings, and rarely equal for different ones."""
    return cells.hash().to_numpy()
