import math
import re

import numpy as np
import pytest

from recbole_mm.config import forms
from recbole_mm.config.forms import FormError, fault, form_of_default, lay_over, parse_form
from recbole_mm.config.kinds import KINDS

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        ("bool", [True, False], [1, 0, None, "True"]),
        ("int", [-1, 0, np.int64(3)], [2.0, "2", True, None]),
        ("float", [-1, 0.5, 2, np.float32(1)], ["1", True, None, INF, NAN]),
        ("str", ["", "a"], [1, None, ["a"]]),
        ("list", [[], [1, "a"]], ["a", {}, (1,)]),
        ("dict", [{}, {"a": 1}], [[], "a"]),
        ("int, >= 1", [1, 7], [0, 1.5]),
        ("float, >= 0, < 1", [0, 0.99], [-0.1, 1, NAN]),
        ("float, > 0, <= 1", [0.01, 1], [0, 1.01]),
        ("int, >= 2, even", [2, 4], [0, 3]),
        ("one of: last, all", ["last", "all"], ["first", "last, all", None, 1]),
        ("one of: user, none, or None", ["none", None], ["None", 5]),
        ("int, >= 1, or None", [1, None], [0, 1.5, "1"]),
        ("list of str", [[], ["a"]], ["a", [1], None]),
        ("list of float, >= 0, < 1", [[0, 0.5]], [[1], [0.5, "a"], 0.5]),
        ("list of int, >= 1, not empty, or int, >= 1", [[5, 10], 5], [[], [0], 0, None]),
        ("dict of float, > 0", [{}, {"a.*": 0.1}], [{"a": 0}, {1: 0.1}, 0.1]),
        ("dict of list of str", [{"inter": ["a"]}], [{"inter": "a"}, ["a"]]),
        ("interval", ["[5,inf)", "(0,1];[4, 9]", "[-inf,3)"], ["5", 5, "[5,]", "[9,5]", "[a,b]"]),
        ("dict of values", [{"rating": "[3,inf)"}, {"kind": ["a"]}], ["[3,inf)", {"rating": 3}]),
        ("encoding", ["utf-8", "latin-1", "utf-16"], ["banana", "hex", "", 5, "a\0b"]),
        ("ranking", ["full", "labeled", "uni100", {"valid": "pop5"}], ["uni", "pop0", 5, {}]),
        (
            "split",
            [{"LS": "test_only"}, {"RS": [0.8, 0, 0.2]}],
            [{"LS": "all"}, {"RS": [0.8, -0.1, 0.3]}, {"RS": [0.8, 0.2]}, {"RS": [0, 1, 1]}, {}],
        ),
    ],
)
def test_a_form_accepts_what_it_names_and_nothing_else(text, good, bad):
    form = parse_form(text)

    assert [value for value in good if fault(form, value)] == []
    assert [value for value in bad if not fault(form, value)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int, >= 1", "a whole number >= 1"),
        ("float, >= 0, < 1", "a number >= 0 and < 1"),
        ("one of: last, all", "one of last, all"),
        ("list of int, >= 1, not empty", "a non-empty list of whole numbers >= 1"),
        ("dict of list of str", "a mapping {name: value} with lists of strings as values"),
        ("bool, or None", "True or False or None"),
    ],
)
def test_a_form_has_a_name_in_words(text, words):
    assert parse_form(text).words == words


@pytest.mark.parametrize(
    "text", ["", "number", "int, big", "int, >= x", "str, > 0", "one of:", "list of", "int >= 1"]
)
def test_what_is_not_a_form_is_refused(text):
    with pytest.raises(FormError):
        parse_form(text)


def test_a_mapping_with_fields_has_no_others_and_each_has_its_form():
    fields = {"order": parse_form("one of: TO, RO"), "max_norm": parse_form("float, required")}
    form = parse_form("dict, or None", fields)

    assert fault(form, None) is None
    assert fault(form, {"max_norm": 5, "order": "TO"}) is None
    assert fault(form, {"order": "TO"}) == "'max_norm' is missing in it; it must be a number"
    assert fault(form, {"max_norm": 5, "ordr": "TO"}) == (
        "'ordr' in it is unknown; did you mean 'order'?"
    )
    assert fault(form, {"max_norm": 5, "order": "up"}) == (
        "'order' in it is 'up'; it must be one of TO, RO"
    )
    assert fault(form, 5) == "it must be a mapping with the keys order, max_norm or None"


def test_a_partial_mapping_is_laid_over_the_default_and_a_whole_one_replaces_it():
    partial, whole = parse_form("dict, may be partial"), parse_form("dict")

    assert lay_over(partial, {"a": 2}, {"a": 1, "b": 1}) == {"a": 2, "b": 1}
    assert lay_over(partial, {"a": 2}, None) == {"a": 2}
    assert lay_over(partial, None, {"a": 1}) is None
    assert lay_over(whole, {"a": 2}, {"a": 1, "b": 1}) == {"a": 2}


@pytest.mark.parametrize(
    ("default", "good", "bad"),
    [(1, 2, 2.5), (0.5, 1, "a"), (True, False, 1), ("a", "b", 1), ([], [1], 1), (None, "x", None)],
)
def test_without_a_comment_the_default_decides(default, good, bad):
    form = form_of_default(default)

    assert fault(form, good) is None
    assert default is None or fault(form, bad)


def test_the_grammar_names_every_kind():
    kinds = re.search(r"KIND +(bool .*?)list of KIND", forms.__doc__, re.DOTALL)[1]

    assert set(re.findall(r"\w+", kinds)) == set(KINDS)
