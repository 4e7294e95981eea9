"""Small files in the layouts of NineRec, MicroLens and PixelRec, as their authors publish them."""

import json

import polars as pl
import pytest
from PIL import Image

from recbole_mm.prepare import line_tables
from recbole_mm.prepare.commands import prepare
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset


def pictures(folder, *items):
    folder.mkdir(parents=True)
    for item in items:
        Image.new("RGB", (8, 8), "red").save(folder / f"{item}.jpg")


def prepared(folder, layout, *options):
    """The data set that the command makes of a folder, without features."""
    out = folder.parent / "out"
    prepare.main([str(folder), f"--layout={layout}", f"--output={out}", "--no-features", *options])
    (made,) = [path for path in out.iterdir() if path.is_dir()]
    return PreparedDataset(out, made.name)


def events(dataset):
    columns = [name for name in dataset.interactions.columns if name != "rating"]
    return dataset.interactions.select(columns).rows()


@pytest.fixture
def ninerec(tmp_path):
    folder = tmp_path / "KU"
    pictures(folder / "KU_cover", "v1", "v2")
    (folder / "KU_item.csv").write_text(
        'v1,韩国电影，《女教师》,"Korean Movie, The Governess"\nv2,狗,A dog\nv3,猫,\n'
    )
    (folder / "KU_pair.csv").write_text("u9,v2,1650000200\nu9,v1,1650000100\nu8,v3,1650000300\n")
    (folder / "KU_url.csv").write_text("v1,https://example.org/1\n")
    return folder


@pytest.fixture
def microlens(tmp_path):
    folder = tmp_path / "MicroLens-50k"
    pictures(folder / "MicroLens-50k_covers", 1, 3)
    (folder / "MicroLens-50k_pairs.csv").write_text(
        "user,item,timestamp\n36121,3,1583378629552\n36121,1,1583378600000\n7,2,1662984132429\n"
    )
    (folder / "MicroLens-50k_pairs.tsv").write_text("36121\t1 3\n7\t2\n")
    (folder / "MicroLens-50k_titles.csv").write_text(
        'item,title\n1,"Cats, and ""dogs"""\n2,plain, with a comma\n3,"never closed\n'
    )
    return folder


@pytest.fixture
def pixelrec(tmp_path):
    folder = tmp_path / "PixelRec"
    pictures(folder / "cover", "i1", "i2", "i408373")
    for kind in ("pixelrec_interaction", "pixelrec_iteminfo"):
        (folder / kind).mkdir()
    for name, user in (("Pixel200K", "u1"), ("Pixel1M", "u2")):
        (folder / "pixelrec_interaction" / f"{name}.csv").write_text(
            f"item_id,user_id,timestamp\ni2,{user},1637000002\ni1,{user},1637000001\n"
        )
        (folder / "pixelrec_iteminfo" / f"{name}.csv").write_text(
            "item_id,view_number,comment_number,thumbup_number,share_number,coin_number,"
            "favorite_number,barrage_number,title,tag,description\n"
            'i1,5,1,1,3,0,0,0,A dog,"Pets, Dogs",\ni2,5,1,1,3,0,0,0,A cat,Pets,"two\nlines"\n'
        )
    return folder


def test_ninerec_becomes_a_data_set(ninerec, capsys):
    dataset = prepared(ninerec, "ninerec")

    assert dataset.name == "KU"
    assert events(dataset) == [
        ("u8", "v3", 1650000300), ("u9", "v1", 1650000100), ("u9", "v2", 1650000200),
    ]  # fmt: skip
    assert dataset.items["title"].to_list() == ["Korean Movie, The Governess", "A dog", None]
    assert [path and path.is_file() for path in dataset.pictures()] == [True, True, None]
    assert "forbid" in dataset.card["terms"] and dataset.card["source"] == "ninerec"
    assert "Terms of the data set: the authors ask for a citation" in capsys.readouterr().out


@pytest.mark.parametrize("item_first", [True, False])
def test_the_item_column_of_pairs_is_found_by_the_items(ninerec, item_first):
    # users look like items, as in the Bili sets, where both are numbers
    rows = [("1", "7", 1650000100), ("2", "7", 1650000200), ("2", "1", 1650000300)]
    (ninerec / "KU_item.csv").write_text("1,一,one\n2,二,two\n")
    pairs = [(i, u, t) if item_first else (u, i, t) for i, u, t in rows]
    text = "".join(f"{a},{b},{t}\n" for a, b, t in pairs)
    (ninerec / "KU_pair.csv").write_text(text)
    pictures(ninerec / "more_cover", 1)

    dataset = prepared(ninerec, "ninerec", f"--images={ninerec}/more_cover")

    assert sorted(events(dataset)) == sorted((u, i, t) for i, u, t in rows)


def test_the_other_language_of_ninerec_can_be_chosen(ninerec):
    dataset = prepared(
        ninerec, "ninerec", "--item-text", "title=text_zh", "--item-text", "description=text_en"
    )

    assert dataset.items["title"].to_list() == ["韩国电影，《女教师》", "狗", "猫"]
    assert dataset.items["description"].to_list()[1] == "A dog"


def test_ninerec_without_times_takes_the_sequences(ninerec, monkeypatch):
    monkeypatch.setattr(line_tables, "ROWS_PER_PART", 2)
    (ninerec / "KU_pair.csv").write_text("u9,v1\nu9,v2\nu8,v3\n")
    (ninerec / "KU_behaviour.tsv").write_text("u9\tv2 v1 v2\n\nu8\tv3\n")

    dataset = prepared(ninerec, "ninerec")

    assert dataset.interactions.columns == ["user_id", "item_id"]
    assert [row for row in events(dataset) if row[0] == "u9"] == [
        ("u9", "v2"), ("u9", "v1"), ("u9", "v2"),
    ]  # fmt: skip


def test_ninerec_without_times_and_sequences_keeps_the_order_of_the_pairs(ninerec):
    (ninerec / "KU_pair.csv").write_text("u9,v2\nu9,v1\n")

    assert events(prepared(ninerec, "ninerec")) == [("u9", "v2"), ("u9", "v1")]


def test_the_source_sets_of_ninerec_share_a_folder(ninerec):
    for name in ("Bili_2M", "Bili_500K"):
        (ninerec / f"{name}_item.csv").write_text("v1,狗,A dog\n")
        (ninerec / f"{name}_pair.csv").write_text("v1,u1,1650000000\n")
    (ninerec / "KU_cover").rename(ninerec / "Source_Bili_2M_cover")

    dataset = prepared(ninerec, "ninerec", "--name=Bili_500K")

    assert dataset.name == "Bili_500K"
    assert events(dataset) == [("u1", "v1", 1650000000)]
    assert dataset.pictures()[0].parent.name == "Source_Bili_2M_cover"


def test_microlens_becomes_a_data_set(microlens, capsys):
    dataset = prepared(microlens, "microlens")

    assert [row[:2] for row in events(dataset)] == [("36121", "1"), ("36121", "3"), ("7", "2")]
    assert dataset.interactions["timestamp"].to_list() == pytest.approx(
        [1583378600.0, 1583378629.552, 1662984132.429], abs=1e-6
    )
    assert dataset.items["title"].to_list() == [
        'Cats, and "dogs"', "plain, with a comma", '"never closed',
    ]  # fmt: skip
    assert [path and path.is_file() for path in dataset.pictures()] == [True, None, True]
    assert "time 'timestamp' in ms" in capsys.readouterr().out


def test_titles_without_a_header_with_a_mark_and_with_line_breaks(microlens):
    (microlens / "MicroLens-50k_titles.csv").unlink()
    (microlens / "MicroLens-100k_title_en.csv").write_bytes(
        '\ufeff1,"two\nlines"\n2,"open\n3,last'.encode()
    )

    dataset = prepared(microlens, "microlens")

    assert dataset.items["title"].to_list() == ["two lines", '"open', "last"]


def test_microlens_without_times_takes_the_sequences(microlens):
    (microlens / "MicroLens-50k_pairs.csv").unlink()

    assert events(prepared(microlens, "microlens")) == [("36121", "1"), ("36121", "3"), ("7", "2")]


def test_pairs_without_a_header_are_read_by_position(microlens):
    (microlens / "MicroLens-50k_pairs.csv").write_text("7,2,1583378629552\n")

    ((user, item, time),) = events(prepared(microlens, "microlens"))

    assert (user, item, time) == ("7", "2", pytest.approx(1583378629.552, abs=1e-6))


def test_pixelrec_becomes_a_data_set(pixelrec):
    dataset = prepared(pixelrec, "pixelrec", "--name=Pixel200K")

    assert events(dataset) == [("u1", "i1", 1637000001), ("u1", "i2", 1637000002)]
    assert dataset.items["categories"].to_list() == ["Pets, Dogs", "Pets"]
    assert dataset.items["description"].to_list() == [None, "two lines"]
    assert [path.name for path in dataset.pictures()] == ["i1.jpg", "i2.jpg"]
    assert "non-commercial" in dataset.card["terms"]


def test_of_several_data_sets_in_a_folder_the_name_chooses(pixelrec):
    with pytest.raises(InputError, match=r"Pixel1M\.csv, .*Pixel200K\.csv\. Choose by --name"):
        prepared(pixelrec, "pixelrec")


def test_features_of_a_layout_are_made_of_its_texts_and_pictures(ninerec):
    prepare.main([str(ninerec), "--layout=ninerec", f"--output={ninerec}/out"])

    card = json.loads((ninerec / "out/KU/KU.card.json").read_text())
    assert {name: info["coverage"] for name, info in card["features"].items()} == {
        "text": pytest.approx(2 / 3), "image": pytest.approx(2 / 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("layout", "damage", "message"),
    [
        ("ninerec", {"KU_pair.csv": "v1,u1,1\nv2,u1,2,3\n"}, "line 2 has 4 fields, expected 3"),
        ("ninerec", {"KU_pair.csv": "v1,u1,1\nv2,u1\n"}, r"no timestamp .* is row 2"),
        ("ninerec", {"KU_pair.csv": "v1,u1,soon\n"}, r"first row is \['v1', 'u1', 'soon'\]"),
        ("ninerec", {"KU_pair.csv": "x1,u1,1\n"}, "neither of its first two columns has items of"),
        ("ninerec", {"KU_pair.csv": ""}, "neither of its first two columns has items of"),
        ("ninerec", {"KU_item.csv": "v1,狗\n"}, r"KU_item\.csv: line 1 has 2 fields, expected 3"),
        ("ninerec", {"KU_item.csv": 'v1,狗,a\nv2,"猫,b\n'}, r"KU_item\.csv.* line 2"),
        ("ninerec", {"KU_item.csv": None}, r"no items in the layout of ninerec \(\*_item\.csv\)"),
        ("microlens", {"MicroLens-50k_titles.csv": "1,a\nb\n"}, r"titles\.csv: line 2 is 'b'"),
        ("microlens", {"MicroLens-50k_titles.csv": ""}, "expected item and title in every line"),
        ("microlens", {"MicroLens-50k_titles.csv": "1,a\n1,b\n2,c\n"}, r"more than one row.*'1'"),
        (
            "microlens",
            {"MicroLens-50k_pairs.csv": None, "MicroLens-50k_pairs.tsv": "7\t2\n8 3 4\n"},
            r"pairs\.tsv: line 2 is '8 3 4'; expected a user, a tab and the items",
        ),
        (
            "microlens",
            {"MicroLens-50k_pairs.csv": "user,item\n1,2\n"},
            r"it has the columns \['user', 'item'\], expected 3",
        ),
        ("microlens", {"MicroLens-50k_pairs.csv": "1,2,3\n1,2,-3\n"}, "before 1970.* is row 2"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named_with_the_line(layout, damage, message, request):
    folder = request.getfixturevalue(layout)
    for name, content in damage.items():
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_text(content, encoding="utf-8")

    with pytest.raises(InputError, match=message):
        prepared(folder, layout)

    assert not list(folder.parent.glob("out/*.inter"))


def test_pixelrec_without_tags_names_the_column(pixelrec):
    path = pixelrec / "pixelrec_iteminfo" / "Pixel200K.csv"
    path.write_text("item_id,title\ni1,A dog\n")

    with pytest.raises(InputError, match="no column 'tag': name it with --item-text categories"):
        prepared(pixelrec, "pixelrec", "--name=Pixel200K")


def test_interactions_of_another_layout_are_refused(pixelrec):
    path = pixelrec / "pixelrec_interaction" / "Pixel200K.csv"
    path.write_text("item_id,user_id,when\ni1,u1,1\n")

    with pytest.raises(InputError, match=r"no column 'timestamp' of times; it has \['item_id', "):
        prepared(pixelrec, "pixelrec", "--name=Pixel200K")


def test_a_layout_knows_its_columns(ninerec):
    with pytest.raises(InputError, match="--user-column: --layout=ninerec knows columns"):
        prepared(ninerec, "ninerec", "--user-column=first")


def test_pictures_outside_the_folder_of_covers_are_not_read(ninerec):
    (ninerec / "KU_item.csv").write_text("../v1,狗,A dog\nv2,猫,A cat\n")
    (ninerec / "KU_pair.csv").write_text("../v1,u,1650000000\nv2,u,1650000001\n")
    pictures(ninerec / "elsewhere", "v1")

    dataset = prepared(ninerec, "ninerec", "--name=KU")

    assert [path and path.name for path in dataset.pictures()] == [None, "v2.jpg"]


def test_lines_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(line_tables, "ROWS_PER_PART", 1000)
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"u{n}\t{n} {n + 1} {n + 2}\n" for n in range(1000)))

    table = line_tables.scan_lines(path, prepare.TextFormat(lines="sequences"), tmp_path)

    assert len(list(tmp_path.glob("*.parquet"))) == 3
    assert table.select(pl.len()).collect().item() == 3000
    assert table.tail(1).collect().row(0) == ("u999", "1001")
