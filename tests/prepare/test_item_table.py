import json

import polars as pl
import pytest

from recbole_mm.prepare.formats import TextFormat
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.item_table import read_items, type_by_content

COLUMNS = {"item_id": "item", "title": None, "categories": None}
ORDERED = pl.Series("item_id", ["b", "a", "b"])


def items_of(path, content, **options):
    path.write_text(content)
    return read_items(path, COLUMNS, ORDERED, **options)


def test_items_without_interactions_are_kept_and_items_without_a_row_are_there(tmp_path):
    items = items_of(tmp_path / "a.csv", "item,title\nnew,N\nb,B\n")

    assert items.rows.rows() == [("a", None), ("b", "B"), ("new", "N")]
    assert items.left_out == {}


def test_items_without_interactions_are_left_out_if_asked(tmp_path):
    items = items_of(tmp_path / "a.csv", "item,title\nnew,N\nb,B\n", only_ordered=True)

    assert items.rows["item_id"].to_list() == ["a", "b"]


def test_without_a_table_there_are_the_items_of_the_interactions():
    assert read_items(None, COLUMNS, ORDERED).rows.rows() == [("a",), ("b",)]


def test_tokens_have_no_blanks_and_rows_without_a_usable_one_are_counted(tmp_path):
    lines = ["item,title", " b ,B", ",no token", "NA,a token", '"c\td",tab', ",", "", "a,A"]

    items = items_of(tmp_path / "a.csv", "\n".join(lines))

    assert items.rows.rows() == [("NA", "a token"), ("a", "A"), ("b", "B")]
    assert items.left_out == {
        "no item": 1,
        "item with a tab or a line break": 1,
    }


def test_texts_with_quotes_separators_and_line_breaks_are_read_whole(tmp_path):
    items = items_of(tmp_path / "a.csv", 'item,title\na,"5"" nail, long\nand thin"\nb,it\'s\n')

    assert items.rows["title"].to_list() == ['5" nail, long\nand thin', "it's"]


@pytest.mark.parametrize("end", ['b,"B ""x" ""', 'b,""B"\n', 'b,"B\n'])
def test_quotes_out_of_place_are_named_by_their_line(tmp_path, end):
    with pytest.raises(
        InputError, match="a.csv: .*line [34]: .*is a quote not closed.*--no-quotes"
    ):
        items_of(tmp_path / "a.csv", f"item,title\na,A\n{end}")


def test_rows_that_are_too_short_are_read_and_reported(tmp_path, capsys):
    items = items_of(tmp_path / "a.csv", "item,title,categories\na,A,x\nb,B\n\nc\n")

    assert items.rows.rows() == [("a", "A", "x"), ("b", "B", None), ("c", None, None)]
    assert (
        "2 rows have fewer fields than the header, the first in line 3" in capsys.readouterr().out
    )


def test_lists_and_records_of_json_become_text(tmp_path):
    lines = [
        {"item": "a", "categories": ["x", None, "y"]},
        {"item": 7, "title": 1.5, "categories": ["z"]},
    ]
    nested = [{"item": "a", "title": {"de": "Ball"}, "categories": [["x", "y"], ["z"]]}]

    flat = items_of(tmp_path / "a.jsonl", "\n".join(map(json.dumps, lines)))
    deep = items_of(tmp_path / "b.jsonl", "\n".join(map(json.dumps, nested)))

    assert flat.rows.rows() == [("7", "1.5", "z"), ("a", None, "x, y"), ("b", None, None)]
    assert deep.rows.row(0) == ("a", '{"de":"Ball"}', "x, y, z")


def test_equal_rows_count_once_and_different_ones_are_refused(tmp_path):
    assert items_of(tmp_path / "a.csv", "item,title\na,A\na,A\n").rows["title"].to_list() == [
        "A",
        None,
    ]
    with pytest.raises(InputError, match=r"1 item has more than one row, e.g. \['a'\]"):
        items_of(tmp_path / "a.csv", "item,title\na,A\na,B\n")


def test_a_table_of_other_items_is_refused(tmp_path):
    with pytest.raises(
        InputError,
        match=r"none of the 2 items of the interactions; .*\['a', 'b'\].*\['x'\].*--key-column",
    ):
        items_of(tmp_path / "a.csv", "item,title\nx,A\n")


@pytest.mark.parametrize(
    "values, kind",
    [
        (["1", " 2.5 ", "", None, "-3e2"], "float"),
        (["1", "two"], "token"),
        (["007", "123"], "token"),
        (["0", "0.5", "-0.5"], "float"),
        (["nan", "1"], "token"),
        (["inf"], "token"),
        ([None, ""], "token"),
    ],
)
def test_a_kept_column_is_float_if_it_holds_nothing_but_numbers(values, kind):
    assert type_by_content(pl.Series(values, dtype=pl.String)) == kind


def test_kept_columns_have_the_type_of_their_content_or_the_one_that_is_named(tmp_path):
    kept = {"price": ("unit price", None), "zip": ("zip", "token"), "color": ("color", None)}
    content = "item,unit price,zip,color\na,1.50,12345,red\nb,,,\n"

    items = items_of(tmp_path / "a.csv", content, kept=kept)

    assert items.types == {"price": "float", "zip": "token", "color": "token"}
    assert items.rows.rows() == [("a", 1.5, "12345", "red"), ("b", None, None, None)]


def test_a_kept_column_that_is_missing_or_not_of_its_type_names_the_option(tmp_path):
    with pytest.raises(InputError, match="no column 'cost': name it with --keep price=COLUMN"):
        items_of(tmp_path / "a.csv", "item\na\n", kept={"price": ("cost", None)})
    with pytest.raises(
        InputError, match="1 value of 'price' cannot be read as a number, e.g. 'free'.*:token"
    ):
        items_of(tmp_path / "a.csv", "item,price\na,free\n", kept={"price": ("price", "float")})
    with pytest.raises(
        InputError, match="no column 'item': name it with --item-column.*--key-column"
    ):
        items_of(tmp_path / "a.csv", "sku\na\n")


def test_a_table_in_another_encoding_is_read(tmp_path):
    (tmp_path / "a.csv").write_bytes("item;title\na;Café\n".encode("cp1252"))

    items = read_items(
        tmp_path / "a.csv", COLUMNS, ORDERED, text=TextFormat(";", "cp1252"), scratch=tmp_path
    )

    assert items.rows["title"].to_list() == ["Café", None]


def test_a_table_of_a_header_alone_has_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text("item,title\n")

    with pytest.raises(InputError, match=r"a\.csv: it has no rows; expected a row per item"):
        read_items(tmp_path / "a.csv", COLUMNS, ORDERED)
