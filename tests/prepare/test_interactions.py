import polars as pl
import pytest

from recbole_mm.prepare.formats import PLAIN
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.interactions import check_interactions
from recbole_mm.prepare.own_tables import NAMES, OPTIONS
from recbole_mm.prepare.table_files import pick_columns, scan_table
from recbole_mm.prepare.times import YEAR_1995, Times

HEADER = "user,item,rating,timestamp\n"
JSON_ORDERS = """
{"Kunde": "u", "Artikel": "a", "Sterne": 1, "Zeit": 5}

{"Kunde": "v", "Artikel": "b", "Sterne": "no", "Zeit": 6}
"""
COLUMNS = {"user_id": "user", "item_id": "item", "rating": None, "timestamp": None}


def checked(path, **options):
    raw = pick_columns(scan_table(path), COLUMNS, path, OPTIONS, number="row")
    table, bad = check_interactions(raw, path, names=NAMES, text=PLAIN, **options)
    return table.collect(), bad


def test_columns_that_are_empty_throughout_are_left_out(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,,\nu,j,,\n")

    assert checked(tmp_path / "a.csv")[0].columns == ["row", "user_id", "item_id"]


@pytest.mark.parametrize(
    "row, reason",
    [
        ("u,i,5,", "no timestamp"),
        ("u,i,,7", "no rating"),
        ("u,i,five,7", "rating is not a number"),
        ('u,i,"3,5",7', "rating is not a number"),
        ("u,i,5,yesterday", "timestamp is not a time"),
        ("u,i,5,-3", "timestamp before 1970"),
        ("u,i,5,1400000000000", "timestamp after 2100"),
        (",i,5,7", "no user"),
        ("u,,5,7", "no item"),
        ('u,"a\tb",5,7', "item with a tab or a line break"),
        ('"a\nb",i,5,7', "user with a tab or a line break"),
        ("u,i,5", "no timestamp"),
    ],
)
def test_bad_rows_are_refused_by_number_or_left_out_and_counted(tmp_path, row, reason):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + f"u1,i1,5,1\n{row}\nu2,i2,4,2\n")

    with pytest.raises(InputError, match=rf"a\.csv.*'{reason}.*line 3: (?s:.)*--drop-bad-rows"):
        checked(path)

    table, bad = checked(path, drop_bad_rows=True)
    assert table["user_id"].to_list() == ["u1", "u2"]
    assert list(bad.values()) == [1] and next(iter(bad)).startswith(reason)


def test_tokens_have_no_blanks_around_them_and_blank_lines_are_no_rows(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "\n u , i 1,5,1\n\nu,i 2\t,5,2\n\n\n")

    table, bad = checked(tmp_path / "a.csv")

    assert table.select("row", "user_id", "item_id").rows() == [(1, "u", "i 1"), (3, "u", "i 2")]
    assert bad == {}


@pytest.mark.parametrize("token", ["NA", "null", "None", "nan", "", "N/A"])
def test_only_an_empty_cell_is_no_token(tmp_path, token):
    (tmp_path / "a.csv").write_text(HEADER + f"u,i,5,1\n{token},{token},5,2\n")

    table, bad = checked(tmp_path / "a.csv", drop_bad_rows=True)

    assert table["item_id"].to_list() == (["i", token] if token else ["i"])
    assert bad == ({} if token else {"no user": 1, "no item": 1})


def test_numbers_and_tokens_of_typed_files_stay_what_they_are(tmp_path):
    table = pl.DataFrame({"user": [7], "item": [10**18], "rating": [4], "timestamp": [5.5]})
    table.write_parquet(tmp_path / "a.parquet")

    assert checked(tmp_path / "a.parquet")[0].rows() == [(0, "7", str(10**18), 4.0, 5.5)]


def test_a_file_without_rows_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER)
    with pytest.raises(InputError, match="no interactions"):
        checked(tmp_path / "a.csv")


def test_a_file_of_bad_rows_alone_is_refused_even_if_they_are_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + ",i,5,1\nu,i,5,1600000000000\nu,j,5,1600000000001\n")

    with pytest.raises(
        InputError, match=r"'timestamp after 2100' is line 3: .*--time-unit"
    ) as error:
        checked(path, drop_bad_rows=True)

    assert "--drop-bad-rows" not in str(error.value)


def test_advice_on_times_is_given_for_times_alone(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,5,1\nu,j,5,\n")

    with pytest.raises(InputError, match="no timestamp") as error:
        checked(tmp_path / "a.csv")

    assert "--time" not in str(error.value)


def test_times_that_all_lie_before_what_is_known_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text(HEADER + "u,i,5,1600000000\nu,j,5,900000000000\n")
    times = Times("ms", since=YEAR_1995)

    assert len(checked(tmp_path / "a.csv", times=times)[0]) == 2
    (tmp_path / "a.csv").write_text(HEADER + "u,i,5,1600000000\n")
    with pytest.raises(InputError, match=r"before 1995-01-01, .*1970-01-19.*fit in s \(2020-09-13"):
        checked(tmp_path / "a.csv", times=times)


@pytest.mark.parametrize(
    "name, text, line",
    [
        ("a.csv", "Kunde,Artikel,Sterne,Zeit\nu,a,1,5\nv,b,no,6\n", 3),
        ("a.csv", "Kunde,Artikel,Sterne,Zeit\r\nu,a,1,5\r\n\r\nv,b,no,6\r\n", 4),
        ("a.csv", 'Kunde,Artikel,Sterne,Zeit,note\nu,a,1,5,"x\ny"\nv,b,no,6,\n', 4),
        (
            "a.jsonl",
            JSON_ORDERS,
            4,
        ),
    ],
)
def test_a_bad_row_is_shown_with_its_line_and_the_names_of_the_file(tmp_path, name, text, line):
    (tmp_path / name).write_bytes(text.encode())
    own = {"user_id": "Kunde", "item_id": "Artikel", "rating": "Sterne", "timestamp": "Zeit"}
    raw = pick_columns(scan_table(tmp_path / name), own, name, OPTIONS, number="row")

    with pytest.raises(InputError) as error:
        check_interactions(raw, tmp_path / name, names=own, text=PLAIN)

    assert (
        f"{name}: bad rows: Sterne is not a number: 1, of 2; the first with 'Sterne is not a number' is "
        f"line {line}: Kunde 'v', Artikel 'b', Sterne 'no', Zeit '6'. "
    ) in str(error.value)


def test_a_bad_row_of_a_file_without_lines_is_shown_with_its_number(tmp_path):
    table = pl.DataFrame({"user": ["u", None], "item": ["a", "b"]})
    table.write_parquet(tmp_path / "a.parquet")

    with pytest.raises(InputError, match=r"'no user' is row 2: user is empty, item 'b'\."):
        checked(tmp_path / "a.parquet")
