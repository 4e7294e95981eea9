import polars as pl

from recbole_mm.data.atomic_files import read_atomic_file
from recbole_mm.prepare.table_writers import write_items


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
