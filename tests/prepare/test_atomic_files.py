import polars as pl
import pytest

from recbole_mm.prepare.atomic_files import read_atomic_file, write_items
from recbole_mm.prepare.inputs import InputError


def test_items_are_written_with_their_types_and_read_back(tmp_path):
    rows = {
        "item_id": ["a", "b"],
        "title": [' 5"\tnail ', None],
        "brand": ["", None],
        "price": [1.5, None],
    }

    write_items(tmp_path / "x.item", pl.DataFrame(rows), {"price": "float"})

    assert (tmp_path / "x.item").read_text().splitlines() == [
        "item_id:token\ttitle:token_seq\tprice:float",
        'a\t"5"" nail"\t1.5',
        "b\t\t",
    ]
    table = read_atomic_file(tmp_path / "x.item")
    assert table.rows() == [("a", '5" nail', 1.5), ("b", None, None)]


@pytest.mark.parametrize(
    "header",
    [
        "user_id\titem_id:token",
        "a:b:float\titem_id:token",
        "a:token\ta:float",
        "a:text\tb:token",
        "",
    ],
)
def test_a_header_without_one_type_for_each_name_is_refused(tmp_path, header):
    (tmp_path / "x.inter").write_text(f"{header}\n1\t2\n")

    with pytest.raises(InputError, match="x.inter: its first line is .*as in item_id:token"):
        read_atomic_file(tmp_path / "x.inter")


def test_text_in_a_column_of_numbers_names_the_file(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\trating:float\nu\tfive\n")

    with pytest.raises(InputError, match="x.inter: not a readable table: .*five"):
        read_atomic_file(tmp_path / "x.inter")


def test_a_mark_of_the_encoding_is_no_part_of_the_first_name(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\nu\n", encoding="utf-8-sig")

    assert read_atomic_file(tmp_path / "x.inter").columns == ["user_id"]
