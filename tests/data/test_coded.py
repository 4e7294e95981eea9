"""Texts as codes."""

import numpy as np
import polars as pl
import pytest

from recbole_mm.data import coded
from recbole_mm.data.coded import coded_texts

CELLS = pl.Series(["b", None, "a", "b", "", None, "c", "a"])


@pytest.mark.parametrize("shared_hash", [False, True])
def test_texts_are_numbered_as_they_occur_even_where_they_share_a_hash(shared_hash, monkeypatch):
    if shared_hash:
        monkeypatch.setattr(coded, "hashes", lambda cells: np.zeros(len(cells), dtype=np.uint64))

    found = coded_texts(CELLS)

    assert found.codes.tolist() == [0, -1, 1, 0, 2, -1, 3, 1]
    assert found.codes.dtype == np.int32
    assert found.texts == ["b", "a", "", "c"]


def test_a_categorical_of_codes_has_the_texts_and_their_gaps():
    column = coded_texts(CELLS).categorical()

    assert column.astype(object).tolist()[2:5] == ["a", "b", ""]
    assert column.isna().tolist() == CELLS.is_null().to_list()


def test_each_row_gets_the_value_of_its_text():
    assert coded_texts(pl.Series(["x", None, "x", "y"])).rows([1, 2], missing=0) == [1, 0, 1, 2]


def test_no_rows_have_no_texts():
    assert coded_texts(pl.Series([], dtype=pl.String)).texts == []
