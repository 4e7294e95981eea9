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


NUMBERED = "1,2,1650000100\n2,3,1650000200\n3,1,1650000300\n"


@pytest.mark.parametrize("header", ["", "item,user,timestamp\n", "user,item,timestamp\n"])
def test_columns_that_are_both_of_items_keep_their_order_unless_a_header_names_them(
    ninerec, capsys, header
):
    (ninerec / "KU_item.csv").write_text("1,一,one\n2,二,two\n3,三,three\n4,四,four\n")
    (ninerec / "KU_pair.csv").write_text(header + NUMBERED)
    pictures(ninerec / "more_cover", 4)

    dataset = prepared(ninerec, "ninerec", f"--images={ninerec}/more_cover")

    rows = [("2", "1"), ("3", "2"), ("1", "3")] if header.startswith("item") else [
        ("1", "2"), ("2", "3"), ("3", "1"),
    ]  # fmt: skip
    assert sorted(row[:2] for row in events(dataset)) == sorted(rows)
    remark = "read in the order of the README, user before item; if the order is reversed, put the"
    assert (remark in capsys.readouterr().out) == (not header)


def test_a_few_items_that_are_lacking_do_not_turn_the_columns(ninerec):
    (ninerec / "KU_item.csv").write_text("".join(f"{n},一,one\n" for n in range(300)))
    (ninerec / "KU_pair.csv").write_text(
        "".join(f"{n},{n + 1},1650000000\n" for n in range(300))  # the item 300 has no row
    )

    pictures(ninerec / "more_cover", 1)

    dataset = prepared(ninerec, "ninerec", f"--images={ninerec}/more_cover")

    assert ("0", "1") in [row[:2] for row in events(dataset)]


def test_texts_of_items_are_taken_by_the_names_of_their_header(ninerec):
    (ninerec / "KU_item.csv").write_text("item,text_en,text_zh\nv1,A dog,狗\nv2,A cat,猫\n")

    dataset = prepared(ninerec, "ninerec")

    assert dataset.items["title"].to_list() == ["A dog", "A cat", None]


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


@pytest.mark.parametrize(
    "header, row",
    [
        ("item,user,timestamp", "2,7,1583378629552"),
        ("timestamp,video_id,UserID", "1583378629552,2,7"),
        ("who,item,when", "7,2,1583378629552"),
        ("item,who,when", "2,7,1583378629552"),
        ("user,rating,item,timestamp", "7,5,2,1583378629552"),
    ],
)
def test_pairs_with_a_header_are_read_by_its_names(microlens, header, row):
    (microlens / "MicroLens-50k_pairs.csv").write_text(f"{header}\n{row}\n")

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
        ("ninerec", {"KU_pair.csv": "v1,u1,1\nv2,u1\n"}, r"no timestamp .* is line 2: user 'u1', item 'v2'"),
        ("ninerec", {"KU_pair.csv": "v1,u1,soon\n"}, r"first row is \['v1', 'u1', 'soon'\]"),
        ("ninerec", {"KU_pair.csv": "x1,u1,1\n"}, "neither of its first two columns has items of"),
        ("ninerec", {"KU_pair.csv": ""}, r"KU_pair\.csv: it is empty"),
        ("ninerec", {"KU_pair.csv": "user,item,time\n"}, r"KU_pair\.csv: it has a header and no rows"),
        ("ninerec", {"KU_item.csv": ""}, r"KU_item\.csv: it is empty"),
        ("microlens", {"MicroLens-50k_pairs.csv": ""}, r"pairs\.csv: it is empty"),
        ("microlens", {"MicroLens-50k_pairs.csv": "user,item,timestamp\n\n"}, "header and no rows"),
        ("microlens", {"MicroLens-50k_titles.csv": "item,title\n"}, "expected item and title in"),
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
        ("microlens", {"MicroLens-50k_pairs.csv": "1,2,3\n1,2,-3\n"}, "before 1970.* is line 2"),
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


@pytest.mark.parametrize("kind", ["interaction", "iteminfo"])
def test_a_file_of_a_header_alone_has_no_rows(pixelrec, kind):
    path = pixelrec / f"pixelrec_{kind}" / "Pixel200K.csv"
    path.write_text(path.read_text().partition("\n")[0] + "\n")

    with pytest.raises(InputError, match=rf"{kind}/Pixel200K\.csv: it has (a header and )?no rows"):
        prepared(pixelrec, "pixelrec", "--name=Pixel200K")


@pytest.mark.parametrize(
    "kind, header, advice",
    [
        ("interaction", "item_id,timestamp\ni1,1600000000", "--user-column=COLUMN"),
        ("iteminfo", "id,title,tag\ni1,A dog,Pets", "--item-column=COLUMN"),
        ("iteminfo", "item_id,title,tag\nx,A dog,Pets", "--key-column=COLUMN"),
    ],
)
def test_an_option_that_the_layout_excludes_is_advised_in_its_place(pixelrec, kind, header, advice):
    (pixelrec / f"pixelrec_{kind}" / "Pixel200K.csv").write_text(header + "\n")

    with pytest.raises(InputError, match=f"{advice}.* instead of --layout=pixelrec"):
        prepared(pixelrec, "pixelrec", "--name=Pixel200K")


@pytest.mark.parametrize(
    "content",
    [
        "v1,u1,1650000000\nv2,u1,99999999999\n",
        'v1,u1,1650000000\nv2,"u,1650000000\n',
        "v1,u1,1650000000\nv2,u1,1650000000,1\n",
        "v1,u1,1650000000\nv2,u1\n",
    ],
)
def test_damage_in_a_layout_is_reported_without_options_that_it_excludes(ninerec, content):
    (ninerec / "KU_pair.csv").write_text(content)

    with pytest.raises(InputError) as error:
        prepared(ninerec, "ninerec")

    words = str(error.value)
    assert not [
        option for option in prepare.OF_OWN_TABLES if f"--{option.replace('_', '-')}" in words
    ]


def test_sequences_have_no_times_to_name(microlens, capsys):
    (microlens / "MicroLens-50k_pairs.csv").unlink()

    prepared(microlens, "microlens")

    out = capsys.readouterr().out
    assert "no times; the order of its rows" in out and "--time-column" not in out


def test_times_of_a_layout_that_are_named_in_another_unit_are_refused(ninerec):
    with pytest.raises(InputError, match=r"before 1995.* fit in s \(2022-04-15\).*\(--time-unit\)"):
        prepared(ninerec, "ninerec", "--time-unit=ms")


def test_a_table_of_another_format_is_not_of_a_layout(ninerec):
    (ninerec / "pairs.jsonl").write_text("{}\n")

    with pytest.raises(
        InputError, match=r"pairs\.jsonl: files of --layout=ninerec end in \.csv or"
    ):
        prepared(ninerec, "ninerec", f"--interactions={ninerec}/pairs.jsonl")


def test_a_layout_knows_its_columns(ninerec):
    with pytest.raises(InputError, match="--user-column: --layout=ninerec defines columns"):
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
