"""The rules of RecBole's files, one test each."""

import re

import polars as pl
import pytest

from recbole_mm.data.atomic_files import AtomicFile, read_atomic_file, write_atomic_file
from recbole_mm.data.errors import DatasetError

HEAD = "user_id:token\titem_id:token\ttimestamp:float"


def read(tmp_path, text, separator="\t", encoding="utf-8", stored=None):
    path = tmp_path / "x.inter"
    path.write_bytes(text.encode(stored or encoding))
    return read_atomic_file(path, separator, encoding)


def test_columns_have_names_without_types_and_numbers_are_numbers(tmp_path):
    table = read(tmp_path, f"{HEAD}\nu\ta\t1.5\nu\t7\t1e9\n")

    assert table.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
    assert table.rows() == [("u", "a", 1.5), ("u", "7", 1e9)]


@pytest.mark.parametrize("token", ["NA", "null", "None", "nan", "N/A", "#N/A", "0", "-", "[PAD]"])
def test_only_the_empty_cell_is_missing(tmp_path, token):
    table = read(tmp_path, f"a:token\tb:token\n{token}\t\n\t{token}\n")

    assert table.rows() == [(token, None), (None, token)]


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"Alien', '"Alien'),
        ('5" nail', '5" nail'),
        ('"Alien" and "Aliens"', '"Alien" and "Aliens"'),
        ("'tis", "'tis"),
        ('"', '"'),
        ('"5"" nail"', '5" nail'),
        ('"plain"', "plain"),
        ('""', None),
    ],
)
def test_a_quote_is_a_character_unless_a_csv_program_has_quoted_the_cell(tmp_path, cell, value):
    table = read(tmp_path, f"a:token_seq\tb:token\n{cell}\tx\n{cell}\ty\n")

    assert table.rows() == [(value, "x"), (value, "y")]


def test_blanks_around_names_and_cells_do_not_count(tmp_path):
    table = read(tmp_path, "a:token, b:float\n x y ,  2\n , 3\n", separator=",")

    assert table.rows(named=True) == [{"a": "x y", "b": 2.0}, {"a": None, "b": 3.0}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way_and_empty_lines_are_skipped(tmp_path, end):
    text = end.join(["a:token\tb:float", "", "x\t1", "", "", "y\t2", ""])

    assert read(tmp_path, text).rows() == [("x", 1.0), ("y", 2.0)]


@pytest.mark.parametrize("separator", [",", ";", " ", "|", "::"])
def test_cells_are_divided_by_the_separator_alone(tmp_path, separator):
    lines = [["a:token", "b:token"], ["x.y", "(z)"], ["", "NA"]]
    text = "\n".join(map(separator.join, lines))

    assert read(tmp_path, text, separator=separator).rows() == [("x.y", "(z)"), (None, "NA")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "gb18030"])
def test_a_text_is_read_in_its_encoding(tmp_path, encoding):
    letter = "é" if encoding == "latin-1" else "日本"

    assert read(tmp_path, f"a:token\n{letter}\n", encoding=encoding).rows() == [(letter,)]


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    assert read(tmp_path, "a:token\nx\n", stored="utf-8-sig").columns == ["a"]


@pytest.mark.parametrize("stored", ["utf-16", "utf-32"])
def test_another_unicode_encoding_is_named(tmp_path, stored):
    with pytest.raises(
        DatasetError, match=f"x.inter: the file is in {stored}, .*--encoding={stored}"
    ):
        read(tmp_path, "a:token\nx\n", stored=stored)


def test_a_line_in_another_encoding_is_named(tmp_path):
    with pytest.raises(DatasetError, match="x.inter: line 3 is not text in utf-8"):
        read(tmp_path, "a:token\nx\né\n", stored="latin-1")


def test_an_unknown_encoding_is_named(tmp_path):
    (tmp_path / "x.inter").write_text("a:token\n")
    with pytest.raises(DatasetError, match="encoding 'banana' of .*x.inter is unknown"):
        read_atomic_file(tmp_path / "x.inter", encoding="banana")


@pytest.mark.parametrize(
    "header",
    [
        "user_id\titem_id:token",
        "a:token\ta:float",
        "a:text\tb:token",
        ":token\tb:token",
        "",
        "a:token\t",
    ],
)
def test_a_header_without_one_type_for_each_name_is_refused(tmp_path, header):
    with pytest.raises(DatasetError, match="x.inter: its first line is .* e.g. item_id:token"):
        read(tmp_path, f"{header}\n1\t2\n")


@pytest.mark.parametrize(
    ("separator", "other"), [("\t", " "), ("\t", ","), ("\t", ";"), (",", "\t"), (" ", "|")]
)
def test_columns_with_another_separator_name_it(tmp_path, separator, other):
    header = other.join(["user_id:token", "item_id:token_seq", "timestamp:float"])
    message = f"x.inter: its first line is .* not separated by {separator!r}; .*--field_separator={other!r}"

    with pytest.raises(DatasetError, match=re.escape(message).replace(r"\.\*", ".*")):
        read(tmp_path, f"{header}\n", separator=separator)


def test_a_type_follows_the_last_colon(tmp_path):
    assert read(tmp_path, "a:b:float\n1\n").rows(named=True) == [{"a:b": 1.0}]


@pytest.mark.parametrize(("line", "n"), [("v\tb", 2), ("v\tb\t2\t3", 4), ("v", 1)])
def test_a_line_with_more_or_fewer_cells_is_named(tmp_path, line, n):
    with pytest.raises(DatasetError, match=f"line 4 has {n} cells, .* 3 columns: 'v"):
        read(tmp_path, f"{HEAD}\n\nu\ta\t1\n{line}\nw\tc\t3\n")


def test_lines_whose_numbers_of_cells_even_out_are_named(tmp_path):
    with pytest.raises(DatasetError, match="line 2 has 2 cells"):
        read(tmp_path, f"{HEAD}\nu\ta\nv\tb\t2\t3\n")


@pytest.mark.parametrize("cell", ["five", "1,5", "0x10", "1_000", "1 2"])
def test_text_among_numbers_is_named_with_its_row(tmp_path, cell):
    message = (
        f"column 'timestamp:float' must contain numbers, but row 3 has '{cell}' \\(2 such rows\\)"
    )
    with pytest.raises(DatasetError, match=f"x.inter: {message}"):
        read(tmp_path, f"{HEAD}\nu\ta\t1\nu\tb\t{cell}\nu\tc\t\nu\td\t{cell}\n")


def test_a_file_without_rows_has_its_columns(tmp_path):
    table = read(tmp_path, f"{HEAD}\n")

    assert table.schema == {"user_id": pl.String, "item_id": pl.String, "timestamp": pl.Float64}
    assert len(table) == 0


def test_columns_that_are_not_asked_for_are_not_checked(tmp_path):
    (tmp_path / "x.inter").write_text("a:token\tb:float\tc:token\nx\tfive\ty\n")
    file = AtomicFile(tmp_path / "x.inter")

    assert [column.kind for column in file.columns] == ["token", "float", "token"]
    assert file.table(["c", "a"]).rows(named=True) == [{"a": "x", "c": "y"}]


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no.item: cannot be read .No such file"):
        AtomicFile(tmp_path / "no.item")


def test_what_is_written_is_read_back(tmp_path):
    rows = {
        "item_id": ["NA", "null", 'x"', "é"],
        "title": ['"Alien"', '5" nail', None, "a,b"],
        "price": [1e15 / 3, 0.1, None, -2.0],
    }
    table = pl.DataFrame(rows)

    write_atomic_file(
        tmp_path / "x.item", table, {"item_id": "token", "title": "token_seq", "price": "float"}
    )

    assert read_atomic_file(tmp_path / "x.item").equals(table)
