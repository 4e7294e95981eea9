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
    assert rows[0] == ["A0000000000000", "B000000000", "1", f"{3 * DAY}"]
    assert rows[1] == ["A0000000000000", "B000000001", "5", f"{11 * DAY}"]
    assert not list(tmp_path.glob(".amazon*"))


def test_a_wrong_layout_is_noticed(tmp_path):
    path = reviews_of(2018, "csv", tmp_path)

    with pytest.raises(InputError, match="--layout"):
        main([f"--reviews={path}", "--layout=2014", "--name=x", f"--output={tmp_path}"])


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
    assert "5 of 6 items have no metadata" in capsys.readouterr().out


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
    assert "1 not a usable address" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"mine.yaml", "raw", "dataset"}
    items = read(tmp_path / "dataset/Pantry/Pantry.item").set_index("item_id:token")
    assert sorted(items["image:token"]) == ["", "", "", *(f"images/{i}.jpg" for i in ITEMS[:3])]
    assert items.loc[hostile, "image:token"] == ""
