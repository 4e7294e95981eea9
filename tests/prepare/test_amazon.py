import csv
import gzip
import json

import pandas as pd
import polars as pl
import pytest

from recbole_mm.prepare import amazon, download
from recbole_mm.prepare.inputs import InputError

DAY = 86400
# user, item, rating, day: u0..u5 each review i0..i5; one repeat, one loner
REVIEWS = [(f"A{u:013d}", f"B{i:09d}", 5.0, 10 + u + i) for u in range(6) for i in range(6)]
REVIEWS += [("A0000000000000", "B000000000", 1.0, 3), ("A0000000000099", "B000000000", 1.0, 3)]


def write(path, lines):
    opened = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return path


def reviews_of(layout, ending, folder):
    """The same reviews as the publishers of that year would have written them."""
    path = folder / f"reviews.{ending}"
    if "csv" in ending:
        order = {2014: "uirt", 2018: "iurt", 2023: "uirt"}[layout]
        unit = 1000 if layout == 2023 else 1
        lines = ["user_id,parent_asin,rating,timestamp"] if layout == 2023 else []
        for u, i, r, day in REVIEWS:
            cells = {"u": u, "i": i, "r": r, "t": day * DAY * unit}
            lines.append(",".join(str(cells[name]) for name in order))
        return write(path, lines)
    keys = amazon.REVIEW_KEYS[layout]
    unit = 1000 if layout == 2023 else 1
    return write(
        path,
        [
            json.dumps(
                {
                    "text": "good",
                    **dict(zip(keys, (u, i, r, day * DAY * unit), strict=True)),
                    "n": [1],
                }
            )
            for u, i, r, day in REVIEWS
        ],
    )


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
    monkeypatch.setattr(amazon, "CHUNK_BYTES", 500)  # several pieces
    path = reviews_of(layout, ending, tmp_path)

    amazon.main(
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
        amazon.main([f"--reviews={path}", "--layout=2014", "--name=x", f"--output={tmp_path}"])


def test_a_cut_archive_is_named(tmp_path):
    path = reviews_of(2018, "json.gz", tmp_path)
    path.write_bytes(path.read_bytes()[:-30])

    with pytest.raises(InputError, match=r"reviews.json.gz: cut or broken"):
        amazon.main([f"--reviews={path}", "--name=x", f"--output={tmp_path}"])
    assert not (tmp_path / "x").exists()


META = {
    2014: (
        "{'asin': 'B000000000', 'title': 'Bob\\'s &amp; toy', 'brand': 'Acme', "
        "'categories': [['Toys', 'Trains'], ['Toys']], 'description': 'A <b>red</b>\\ntrain', "
        "'imUrl': 'http://h/a.jpg'}"
    ),
    2018: json.dumps(
        {
            "asin": "B000000000",
            "title": "Bob's &amp; toy",
            "brand": "Acme",
            "category": ["Toys", "Trains"],
            "description": ["A <b>red</b>", "train"],
            "imageURLHighRes": ["http://h/a.jpg", "http://h/b.jpg"],
        }
    ),
    2023: json.dumps(
        {
            "parent_asin": "B000000000",
            "title": "Bob's & toy",
            "store": "Acme",
            "categories": ["Toys", "Trains"],
            "description": [],
            "features": ["A red", "train"],
            "images": [{"thumb": "http://h/t.jpg", "large": "http://h/a.jpg"}],
        }
    ),
}


@pytest.mark.parametrize("layout", META)
def test_metadata_of_every_layout(tmp_path, layout):
    other = META[layout].replace("B000000000", "B00000OTHE")
    broken = META[layout].replace("B000000000", "B000000001")[:-9]
    path = write(tmp_path / "meta.json.gz", [other, META[layout], META[layout], broken])

    rows, counts = amazon.read_meta(path, {"B000000000", "B000000001"}, layout)

    assert rows == [
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
    row = amazon._item_row("B", {"title": "var t = new Date().getTime()", "image": []})

    assert row["title"] is None and row["url"] is None


def test_a_category_is_found_in_the_raw_folder_with_texts_and_pictures(tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    reviews_of(2018, "csv", raw).rename(raw / "Industrial_and_Scientific.csv")
    write(raw / "meta_Industrial_and_Scientific.json.gz", [META[2018]])
    monkeypatch.setattr(
        download, "fetch_pictures", lambda pictures, _: dict.fromkeys(pictures, "a.jpg")
    )

    amazon.main(
        ["Scientific", f"--raw={raw}", f"--output={tmp_path}", "--pictures", "--no-features"]
    )

    items = read(tmp_path / "Scientific" / "Scientific.item")
    assert items["image:token"].tolist() == ["images/a.jpg", "", "", "", "", ""]
    card = json.loads((tmp_path / "Scientific" / "Scientific.card.json").read_text())
    assert (card["users"], card["items"], card["interactions"]) == (6, 6, 36)
    assert card["layout"] == 2018 and len(card["sources"]) == 2


def test_files_that_are_not_there_name_the_addresses(tmp_path):
    with pytest.raises(InputError, match=r"(?s)no Food_\w+.csv|Grocery.*--download.*https://"):
        amazon.main(["Food", f"--raw={tmp_path}"])


def test_a_core_of_nothing_says_so(tmp_path):
    path = reviews_of(2018, "csv", tmp_path)

    with pytest.raises(InputError, match="no user and item has 9 reviews"):
        amazon.main([f"--reviews={path}", "--name=x", f"--output={tmp_path}", "--core=9"])


def test_quotes_in_a_ratings_file_do_not_swallow_lines(tmp_path):
    with open(tmp_path / "a.csv", "w", newline="") as file:
        csv.writer(file).writerows([['B"1', "u", 5, 1], ["B2", "u", 5, 2]])

    table = amazon.scan_reviews(tmp_path / "a.csv", 2018, tmp_path).collect()

    assert table["item_id"].to_list() == ['B"1', "B2"]
    assert isinstance(table, pl.DataFrame)
