import csv
import json

import polars as pl
import pytest
from small_amazon import META, write

from recbole_mm.prepare import amazon_files
from recbole_mm.prepare.amazon_files import read_meta, scan_reviews
from recbole_mm.prepare.inputs import InputError


@pytest.mark.parametrize("layout", META)
def test_metadata_of_every_layout(tmp_path, layout):
    other = META[layout].replace("B000000000", "B00000OTHE")
    broken = META[layout].replace("B000000000", "B000000001")[:-9]
    path = write(tmp_path / "meta.json.gz", [other, META[layout], META[layout], broken])

    rows, counts = read_meta(path, {"B000000000", "B000000001"}, layout)

    assert rows.to_dicts() == [
        {
            "item_id": "B000000000",
            "title": "Bob's & toy",
            "brand": "Acme",
            "categories": "Toys, Trains",
            "description": "A red train",
            "url": "http://h/a.jpg",
        }
    ]
    assert counts == {"lines": 4, "repeated": 1, "unreadable": 1}


def test_a_scraped_script_is_no_title():
    row = amazon_files._item_row("B", {"title": "var t = new Date().getTime()", "image": []})

    assert row["title"] is None and row["url"] is None


def test_quotes_in_a_ratings_file_do_not_swallow_lines(tmp_path):
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([['B"1', "u", 5, 1], ["B2", "u", 5, 2]])

    table = scan_reviews(tmp_path / "a.csv", 2018, tmp_path).collect()

    assert table["item_id"].to_list() == ['B"1', "B2"]
    assert isinstance(table, pl.DataFrame)


ODD = [
    "null",
    "[]",
    '"asin"',
    "{" + '"a": {' * 5000,
    "[" * 100_000,
    "(" * 5000,
    "{'asin': 'B000000000', 'x': " + "-" * 5000 + "1}",
    '{"also_buy": [{"asin": "B000000000"}], "asin": "B000000009"}',
]


@pytest.mark.parametrize("line", ODD)
def test_a_line_that_is_no_item_is_counted_and_ends_no_other(tmp_path, line):
    if "B000000000" not in line:
        line += '"asin": "B000000000"'
    path = write(tmp_path / "meta.json", [line, META[2018]])

    rows, counts = read_meta(path, {"B000000000"}, 2018)

    assert rows["title"].to_list() == ["Bob's & toy"]
    assert counts == {"lines": 2, "repeated": 0, "unreadable": 1}


@pytest.mark.parametrize(
    "value", [None, 3, True, "a", "", [], [None], [[["a"]]], {"a": 1}, [{}], "\ud800\0a"]
)
def test_a_value_of_any_kind_does_for_every_field(tmp_path, value):
    keys = ["title", "brand", "category", "description", "imageURLHighRes", "image"]
    path = write(tmp_path / "meta.json", [json.dumps({"asin": "B", **dict.fromkeys(keys, value)})])

    rows, counts = read_meta(path, {"B"}, 2018)

    assert counts["unreadable"] == 0
    (row,) = rows.to_dicts()
    assert {*row.values()} <= {"B", None, "3", "a", "True"}


def test_categories_are_a_list_or_one_text(tmp_path):
    texts = [["Food", "Tea &amp; more", "Food"], "Food"]
    lines = [json.dumps({"asin": f"B{n}", "category": text}) for n, text in enumerate(texts)]

    rows, _ = read_meta(write(tmp_path / "meta.json", lines), {"B0", "B1"}, 2018)

    assert rows["categories"].to_list() == ["Food, Tea & more", "Food"]


@pytest.mark.parametrize("name", ["x.csv.gz", "x.json", "x.json.gz"])
def test_a_file_without_line_breaks_is_refused_before_it_fills_the_memory(
    tmp_path, monkeypatch, name
):
    monkeypatch.setattr(amazon_files, "LONGEST_LINE", 1000)
    monkeypatch.setattr(amazon_files, "CHUNK_BYTES", 300)
    path = write(tmp_path / name, ["\0" * 5000])

    with pytest.raises(InputError, match="a line is longer than"):
        scan_reviews(path, 2018, tmp_path)
    with pytest.raises(InputError, match="a line is longer than"):
        read_meta(path, {"B"}, 2018)
