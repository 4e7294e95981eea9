import gzip
import json

import pandas as pd
import pytest
from small_amazon import DAY, ITEMS, META, meta_line, mirrors_file, publish, reviews_of, write
from web_server import serving

from recbole_mm.prepare import amazon_files
from recbole_mm.prepare.commands.amazon import main
from recbole_mm.prepare.inputs import InputError


def read(path):
    return pd.read_csv(path, sep="\t", engine="python", dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    "layout, ending",
    [
        (2014, "csv"),
        (2014, "json.gz"),
        (2018, "csv"),
        (2018, "csv.gz"),
        (2018, "json.gz"),
        (2023, "csv"),
        (2023, "csv.gz"),
        (2023, "jsonl.gz"),
    ],
)
def test_every_layout_gives_the_same_interactions(tmp_path, monkeypatch, layout, ending):
    monkeypatch.setattr(amazon_files, "CHUNK_BYTES", 500)  # several pieces
    path = reviews_of(layout, ending, tmp_path)

    main(
        [f"--reviews={path}", f"--layout={layout}", "--name=x", f"--output={tmp_path}", "--core=2"]
    )

    rows = read(tmp_path / "x" / "x.inter").to_numpy().tolist()
    assert len(rows) == 36
    assert rows[0] == ["A0000000000000", "B000000000", "1", f"{10_003 * DAY}"]
    assert rows[1] == ["A0000000000000", "B000000001", "5", f"{10_011 * DAY}"]
    assert not list(tmp_path.glob(".amazon*"))


def test_a_wrong_layout_is_noticed(tmp_path):
    path = reviews_of(2018, "csv", tmp_path)

    with pytest.raises(InputError, match="--layout"):
        main([f"--reviews={path}", "--layout=2014", "--name=x", f"--output={tmp_path}"])


def refusal(path, *options):
    """What is said of reviews that cannot be used."""
    with pytest.raises(InputError) as error:
        main([f"--reviews={path}", "--name=x", f"--output={path.parent / 'out'}", *options])
    return str(error.value)


@pytest.mark.parametrize(
    "layout, lines, words",
    [
        (
            2023,
            ["u,i,5,1600000000"] * 2,
            [
                "before 1995",
                "fit in s (2020-09-13)",
                "is row 1: user_id 'u', item_id 'i', rating '5'",
            ],
        ),
        (
            2014,
            ["u,i,5,1600000000000"] * 2,
            [
                "after 2100",
                "2014 have times in s)",
                "is row 1: user_id 'u', item_id 'i', rating '5'",
            ],
        ),
        (2018, ["i,u,5,July"] * 2, ["'July' are not numbers"]),
    ],
)
def test_times_of_another_unit_are_refused(tmp_path, layout, lines, words):
    path = write(tmp_path / "a.csv", lines)

    message = refusal(path, f"--layout={layout}", "--core=0")

    assert "--layout" in message and "--time-format" not in message
    assert [word for word in words if word not in message] == []


def test_reviews_of_another_year_name_the_year(tmp_path):
    path = reviews_of(2023, "jsonl.gz", tmp_path)

    message = refusal(path, "--layout=2018")

    assert "['text', 'user_id', 'parent_asin', 'rating', 'timestamp', 'n']" in message
    assert "expects ['reviewerID', 'asin', 'overall', 'unixReviewTime']" in message
    assert message.endswith("Add --layout=2023.")


def test_records_of_no_layout_are_refused(tmp_path):
    path = write(tmp_path / "a.jsonl", ['{"user_id": "u", "rating": 1}'] * 3)

    assert "have ['user_id', 'rating'], but --layout=2023 expects" in refusal(path, "--layout=2023")


@pytest.mark.parametrize(
    "content, words",
    [
        (META[2023], "--layout=2018 expects \\['asin'\\]. Add --layout=2023"),
        ("", "meta.json: it is empty"),
        ("B000000000,A red train", "none of its first 1000 lines is a JSON record"),
    ],
)
def test_metadata_without_a_usable_record_are_refused(tmp_path, content, words):
    path = reviews_of(2018, "csv", tmp_path)
    (tmp_path / "meta.json").write_text(content)

    with pytest.raises(InputError, match=words):
        main([f"--reviews={path}", f"--meta={tmp_path}/meta.json", "--name=x", "--no-features"])


@pytest.mark.parametrize(
    "name, content",
    [("a.jsonl", b'{"user_id": "caf\xe9"}\n'), ("a.csv", b"u,i,5,9\ncaf\xe9,i,5,9\n")],
)
def test_text_that_is_not_utf_8_is_named_without_an_option_for_it(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    if name == "a.jsonl":
        keys = b'"parent_asin": "i", "rating": 5, "timestamp": 900000000000, "user_id"'
        (tmp_path / name).write_bytes(content.replace(b'"user_id"', keys))

    message = refusal(tmp_path / name, "--layout=2023")

    assert "not in utf-8" in message and "Save it in UTF-8" in message
    assert "--encoding" not in message


def test_a_cut_archive_is_named(tmp_path):
    path = reviews_of(2018, "json.gz", tmp_path)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(InputError, match=r"reviews.json.gz: cut off or damaged"):
        main([f"--reviews={path}", "--name=x", f"--output={tmp_path}"])
    assert not (tmp_path / "x").exists()


def test_a_category_is_found_in_the_raw_folder_packed_or_not(tmp_path, capsys):
    raw = tmp_path / "raw" / "2018"
    raw.mkdir(parents=True)
    reviews_of(2018, "csv", raw).rename(raw / "Industrial_and_Scientific.csv")
    write(raw / "meta_Industrial_and_Scientific.json", [META[2018]])

    main(["Scientific", f"--output={tmp_path}", "--no-features"])

    items = read(tmp_path / "Scientific" / "Scientific.item")
    assert items["title:token_seq"].tolist() == ["Bob's & toy", "", "", "", "", ""]
    card = json.loads((tmp_path / "Scientific" / "Scientific.card.json").read_text())
    assert (card["users"], card["items"], card["interactions"]) == (6, 6, 36)
    assert card["layout"] == 2018 and len(card["sources"]) == 2
    assert "without metadata: 5 of 6 items" in capsys.readouterr().out


def test_files_of_another_year_are_not_taken(tmp_path):
    (tmp_path / "raw" / "2014").mkdir(parents=True)
    for name in ("ratings_Toys_and_Games.csv", "meta_Toys_and_Games.json.gz"):
        (tmp_path / "raw" / "2014" / name).touch()

    with pytest.raises(InputError, match="raw/2018/meta_Toys_and_Games.json.gz from https://"):
        main(["Toys", "--layout=2018"])


def test_files_that_are_missing_are_listed_with_their_addresses_before_any_work(tmp_path):
    with pytest.raises(InputError, match=r"(?s)raw/2018: files are missing.*--download") as error:
        main(["Food"])

    assert "raw/2018/Grocery_and_Gourmet_Food.csv from https://" in str(error.value)
    assert "raw/2018/meta_Grocery_and_Gourmet_Food.json.gz from https://" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path):
    path = reviews_of(2018, "csv", tmp_path)

    with pytest.raises(InputError, match="cannot be the name of a data set"):
        main([f"--reviews={path}", "--name=../x", f"--output={tmp_path / 'out'}"])


def test_a_core_of_nothing_says_so(tmp_path):
    path = reviews_of(2018, "csv", tmp_path)

    with pytest.raises(InputError, match="no users and items with 9 reviews each"):
        main([f"--reviews={path}", "--name=x", f"--output={tmp_path}", "--core=9"])


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.json", "a.json.gz"])
@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)

    with pytest.raises(InputError, match=f"{name}: it begins with an empty line"):
        main([f"--reviews={path}", "--name=x"])
    assert [path.name for path in tmp_path.rglob("*")] == [name, "dataset"]


def test_a_hostile_item_stays_in_its_folder_and_ends_no_other(tmp_path, capsys):
    """Its token is a path, its picture lies in a private network."""
    hostile = "../../../../escaped"
    with serving({}) as server, serving({"x.jpg": b"private"}) as private:
        publish(server, 2018, "Prime_Pantry")
        reviews, meta = (name for name in server.files if "Pantry" in name)
        server.files[reviews] = server.files[reviews].replace(ITEMS[3].encode(), hostile.encode())
        lines = gzip.decompress(server.files[meta]).decode().splitlines()
        lines[3] = meta_line(2018, hostile, private.url)
        server.files[meta] = gzip.compress("\n".join(lines).encode())
        mirrors_file(server, tmp_path / "mine.yaml")

        main(["Pantry", "--download", "--pictures", f"--mirrors={tmp_path / 'mine.yaml'}"])

    assert private.asked == []
    assert "not a usable address: 1" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", "raw", "dataset"}
    items = read(tmp_path / "dataset/Pantry/Pantry.item").set_index("item_id:token")
    assert sorted(items["image:token"]) == ["", "", "", *(f"images/{i}.jpg" for i in ITEMS[:3])]
    assert items.loc[hostile, "image:token"] == ""
