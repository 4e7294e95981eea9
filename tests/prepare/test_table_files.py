import datetime
import gzip
import sys
from pathlib import Path

import polars as pl
import pytest
from xlsx import write_xlsx

from recbole_mm.prepare.formats import FIXED, TextFormat, parse_encoding, parse_separator
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.table_files import pick_columns, reading, scan_table

ROWS = [("1", "x"), ("01", "y z")]


def read(path, text=None, scratch=None):
    text = text or TextFormat()
    with reading(path, text):
        return scan_table(path, text, scratch).collect()


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", b"user,item\n1,x\n01,y z\n"),
        ("a.CSV", b"user,item\r\n1,x\r\n01,y z\r\n"),
        ("a.csv", b"user,item\r1,x\r01,y z\r"),
        ("a.tsv.gz", packed(b"user\titem\r1\tx\r01\ty z")),
        ("a b.csv", b'\xef\xbb\xbf"user", item \n1,"x"\n01,y z'),
        ("a.tsv", b"user\titem\n1\tx\n01\ty z\n"),
        ("a.csv.gz", packed(b"user,item\n1,x\n01,y z\n")),
        ("a.tsv.gz", packed(b"user\titem\n1\tx\n01\ty z\n")),
        ("a.jsonl", b'{"user": 1, "item": "x"}\n\n{"user": "01", "item": "y z"}\n'),
        ("a.ndjson", b'\xef\xbb\xbf{"user": 1, "item": "x"}\n{"user": "01", "item": "y z"}'),
        ("a.jsonl.gz", packed(b'{"user": 1, "item": "x"}\n{"user": "01", "item": "y z"}\n')),
    ],
)
def test_every_format_of_text_reads_alike(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    table = read(tmp_path / name, scratch=tmp_path)

    assert table.columns == ["user", "item"]
    assert table.rows() == ROWS


def test_parquet_keeps_its_types(tmp_path):
    table = pl.DataFrame({"user": [1], "day": [datetime.date(2020, 1, 2)]})
    table.write_parquet(tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet").equals(table)


def test_the_first_sheet_of_excel_is_text_with_dates_in_iso(tmp_path):
    pytest.importorskip("fastexcel")
    day = datetime.date(2020, 1, 2)
    write_xlsx(tmp_path / "a.xlsx", [["user", " item ", "day"], [7, "x", day], ["u", 1.5, None]])

    table = read(tmp_path / "a.xlsx")

    assert table.columns == ["user", "item", "day"]
    assert table.rows() == [("7", "x", "2020-01-02 00:00:00"), ("u", "1.5", None)]


def test_excel_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "a.xlsx").write_bytes(b"hello")
    monkeypatch.setitem(sys.modules, "fastexcel", None)

    with pytest.raises(InputError, match=r"a.xlsx: .*pip install 'recbole_mm\[excel\]'"):
        read(tmp_path / "a.xlsx")


@pytest.mark.parametrize("content", [b"PK", b"hello"])
def test_a_damaged_excel_file_is_named(tmp_path, content):
    pytest.importorskip("fastexcel")
    (tmp_path / "a.xlsx").write_bytes(content)

    with pytest.raises(InputError, match=r"a.xlsx: not a readable Excel file"):
        read(tmp_path / "a.xlsx")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16"])
def test_another_encoding_and_separator_are_read_as_named(tmp_path, encoding):
    content = "user;item\ncafé;a,b\n".encode(encoding)
    (tmp_path / "a.csv").write_bytes(content)
    (tmp_path / "a.csv.gz").write_bytes(packed(content))
    text = TextFormat(separator=";", encoding=encoding)

    for name in ("a.csv", "a.csv.gz"):
        assert read(tmp_path / name, text, tmp_path).rows() == [("café", "a,b")]


def test_a_text_file_of_any_name_is_read_if_its_separator_is_named(tmp_path):
    (tmp_path / "a.dat").write_text("user|item\nu|x\n")

    assert read(tmp_path / "a.dat", TextFormat(separator="|")).rows() == [("u", "x")]
    with pytest.raises(InputError, match=r"format '.dat' is unknown.*\(--separator\)"):
        read(tmp_path / "a.dat")


def test_quotes_are_plain_characters_if_asked(tmp_path):
    (tmp_path / "a.csv").write_text('item,title\na,5" nail\nb,"x\n')

    assert read(tmp_path / "a.csv", TextFormat(quotes=False)).rows() == [
        ("a", '5" nail'),
        ("b", '"x'),
    ]


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("a.csv", b"", "it is empty"),
        ("a.csv", b"a,b,a\n1,2,3\n", r"duplicate column name 'a' \(columns \[1, 3\]\)"),
        ("a.csv", b"a, a \n1,2\n", "duplicate column name 'a'"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, the header has 2"),
        ("a.csv", b'a,b\n1,x\n2,"foo\n3,"bar\n', "line 4: .*is a quote not closed.*--no-quotes"),
        ("a.csv", b'a,b\n1,x\n2,"foo\n3,bar\n', "line 4: .*is a quote not closed.*--no-quotes"),
        (
            "a.csv",
            b'a,b\n1,5" x\n2,6" x\n',
            "line 2: a quote inside an unquoted field.*--no-quotes",
        ),
        ("a.csv", b"a,b\ncaf\xe9,y\n", "not in utf-8.*--encoding, perhaps latin-1 or cp1252"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "not in utf-8.*--encoding, perhaps utf-16"),
        ("a.csv.gz", packed(b"a,b\n" + b"1,2\n" * 999)[:-9], r"damaged or truncated \.gz"),
        ("a.csv.gz", b"a,b\n1,2\n", r"damaged or truncated \.gz"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n', "line 3 is not JSON"),
        ("a.jsonl", b'{"a": 1}\n[1, 2]\n', "line 2 is not a JSON object"),
        ("a.jsonl", b"", "not a readable table"),
        ("a.jsonl.gz", packed(b'{"a": 1}\n{"a"')[:-1], r"damaged or truncated \.gz|line 2"),
        ("a.parquet", b"PAR1 but not more", "not a readable table"),
        ("a.json", b"[]", r"format '.json' is unknown; known formats are .csv"),
        ("a", b"", "format '' is unknown"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line_and_the_fix(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match=rf"{name}: (?s:.)*{words}"):
        read(tmp_path / name)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"b\.csv: no such file"):
        read(tmp_path / "b.csv")


def test_columns_of_any_name_are_picked_as_they_are_written(tmp_path):
    (tmp_path / "a.csv").write_text(",a:b:float,my item\n0,u,x\n")
    table = scan_table(tmp_path / "a.csv")

    picked = pick_columns(table, {"user_id": "a:b:float", "item_id": "my item"}, "a.csv", {})

    assert picked.collect().rows() == [("u", "x")]
    assert table.collect_schema().names() == ["column_1", "a:b:float", "my item"]


def test_a_column_that_is_missing_names_its_option_those_that_exist_and_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("Users,what\nu,i\n")
    columns = {"user_id": "user", "item_id": "item", "rating": None}
    options = {"user_id": "--user-column=COLUMN", "item_id": "--item-column=COLUMN"}

    with pytest.raises(
        InputError,
        match=r"a.csv: no column 'user': name it with --user-column=COLUMN \(did you mean 'Users'\?\);"
        r" no column 'item': name it with --item-column=COLUMN. The file has \['Users', 'what'\]",
    ):
        pick_columns(scan_table(tmp_path / "a.csv"), columns, tmp_path / "a.csv", options)


@pytest.mark.parametrize(
    "name, header, option",
    [("a.csv", "user;item", "';'"), ("a.csv", "user\titem", "tab"), ("a.csv", "user|item", "'|'")],
)
def test_another_separator_is_suggested(tmp_path, name, header, option):
    (tmp_path / name).write_text(f"{header}\n")

    with pytest.raises(InputError) as error:
        pick_columns(scan_table(tmp_path / name), {"user_id": "user"}, name, {})
    assert f"Add --separator={option}." in str(error.value)


def test_separators_and_encodings_are_checked_by_name():
    assert [parse_separator(text) for text in (";", "tab", "\\t", "\t", " ")] == list(";\t\t\t ")
    assert [parse_encoding(text) for text in ("UTF8", "utf-8-sig", "latin1")] == [
        "utf-8",
        "utf-8",
        "iso8859-1",
    ]
    for text in ("", "::", '"', "é"):
        with pytest.raises(ValueError):
            parse_separator(text)
    for text in ("banana", "", "base64"):
        with pytest.raises(ValueError):
            parse_encoding(text)


@pytest.mark.parametrize(
    "name, content",
    [
        ("a.csv", b"a,b\ncaf\xe9,y\n"),
        ("a.csv", b'a,b\n1,x\n2,"foo\n3,bar\n'),
        ("a.csv", b'a,b\n1,5" x\n2,6" x\n'),
        ("a.csv", b"a,b\n1,2,3\n"),
        ("a.jsonl", b'{"a": "caf\xe9"}\n'),
    ],
)
def test_options_that_a_command_does_not_accept_are_not_advised(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InputError, match="UTF-8|uote") as error:
        read(tmp_path / name, FIXED)

    assert "--" not in str(error.value)


def test_json_in_another_encoding_has_no_option(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"a": "caf\xe9"}\n')

    with pytest.raises(InputError, match="Save it in UTF-8; it may be in latin-1"):
        read(tmp_path / "a.jsonl")


TEXTS = ("a.csv", "a.tsv", "a.jsonl", "a.jsonl.gz")


@pytest.mark.parametrize(
    "name, content",
    [(name, b"") for name in (*TEXTS, "a.parquet", "a.xlsx")] + [(name, b"\n\n") for name in TEXTS],
)
def test_an_empty_file_is_said_to_be_empty(tmp_path, name, content):
    (tmp_path / name).write_bytes(packed(content) if name.endswith(".gz") else content)

    with pytest.raises(InputError, match=f"{name}: .*it is empty"):
        read(tmp_path / name, scratch=tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_disk_that_is_too_full_for_a_copy_in_utf8_is_named(tmp_path):
    (tmp_path / "a.csv").write_bytes("a,b\nCafé,1\n".encode("cp1252"))
    (tmp_path / "utf8-a.csv").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left on device: '.*utf8-a.csv'"):
        scan_table(tmp_path / "a.csv", TextFormat(encoding="cp1252"), tmp_path)
