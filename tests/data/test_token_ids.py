"""Ids of tokens."""

import numpy as np
import pandas as pd
import pytest

from recbole_mm.data.token_ids import IdOfToken, categorical, numbered

COLUMNS = [
    ["b", "a", None, "b", "c"],
    ["a", None],
    [None, None],
    [],
]


@pytest.mark.parametrize("categories", [["b", "a", "c"], ["a", "b", "c"], ["b", "x", "a", "c"]])
def test_ids_follow_the_first_occurrence_whatever_the_codes(categories):
    columns = [pd.Categorical(column, categories=categories) for column in COLUMNS]

    ids, tokens = numbered(columns)

    assert [column.tolist() for column in ids] == [[1, 2, 0, 1, 3], [2, 0], [0, 0], []]
    assert tokens.tolist() == ["[PAD]", "b", "a", "c"]
    for place, expected in ((0, [1, 2, 0, 1, 3]), (1, [1, 0]), (2, [0, 0]), (3, [])):
        (alone,), _ = numbered(columns[place : place + 1])
        assert alone.tolist() == expected
        assert alone.dtype == np.int64


@pytest.mark.parametrize("n", [1, 2, 127, 128, 129, 300])
def test_the_largest_code_may_come_first(n):
    tokens = [str(number) for number in range(n)]

    (ids,), found = numbered([pd.Categorical(tokens[::-1], categories=tokens)])

    assert ids.tolist() == list(range(1, n + 1))
    assert found[1:].tolist() == tokens[::-1]


def test_texts_are_a_categorical_of_objects_in_the_order_in_which_they_occur():
    column = categorical(pd.Series(["b", None, "a", "b"], dtype=object))

    assert column.codes.tolist() == [0, -1, 1, 0]
    assert column.categories.tolist() == ["b", "a"]
    assert categorical(column).codes.tolist() == [0, -1, 1, 0]


def test_the_id_of_a_token_is_its_place():
    id_of_token = IdOfToken(np.array(["[PAD]", "b", "a"]))

    assert id_of_token == {"[PAD]": 0, "b": 1, "a": 2}
    assert "c" not in id_of_token and len(id_of_token) == 3
