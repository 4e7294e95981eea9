import datetime
import gzip
import hashlib
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest
from PIL import Image
from xlsx import write_xlsx

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import read_feature_info
from recbole_mm.data.features import read_item_features
from recbole_mm.prepare import prepared
from recbole_mm.prepare.commands import prepare
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools.errors import UserError


def read(path):
    return pd.read_csv(path, sep="\t", engine="python", dtype=str, keep_default_na=False)


def test_a_folder_becomes_a_data_set(shop, tmp_path):
    prepare.main([str(shop), "--output", str(tmp_path / "out")])

    folder = tmp_path / "out" / "shop"
    inter = read(folder / "shop.inter")
    assert inter.columns.tolist() == [
        "user_id:token", "item_id:token", "rating:float", "timestamp:float",
    ]  # fmt: skip
    assert inter.iloc[:, :2].apply("".join, axis=1).tolist() == [
        "u1a", "u1b", "u1c", "u2a", "u2d", "u3a", "u3b",
    ]  # fmt: skip
    items = read(folder / "shop.item")
    assert items["item_id:token"].tolist() == ["a", "b", "c", "d", "never bought"]
    assert items["title:token_seq"].tolist() == ['Red "toy" train', "Blue toy train", "", "", "x"]
    assert "categories:token_seq" not in items
    tokens = ["[PAD]", "a", "b", "c", "d"]
    for modality, coverage in (("text", 0.8), ("image", 0.6)):
        features = read_item_features(folder / f"shop.{modality}.npz", tokens)
        assert features.present.tolist() == [False, True, True, True, False]
        info = read_feature_info(folder / f"shop.{modality}.npz")
        assert (info["encoder"], info["coverage"], info["date"]) == (
            "embedded",
            coverage,
            "2023-11-14",
        )


def test_the_same_input_gives_the_same_bytes(shop, tmp_path):
    hashes = []
    for run in ("one", "two"):
        prepare.main([str(shop), "--output", str(tmp_path / run)])
        files = sorted((tmp_path / run / "shop").iterdir())
        hashes.append([(f.name, hashlib.sha256(f.read_bytes()).hexdigest()) for f in files])

    assert hashes[0] == hashes[1]


def test_tables_of_any_format_with_columns_of_any_name(shop, tmp_path):
    pl.DataFrame(
        {"customer": ["u", "u"], "sku": ["a", "b"], "day": ["2020-01-02", "2020-01-01"]}
    ).write_parquet(tmp_path / "orders.parquet")
    (tmp_path / "goods.csv").write_text("sku,label\nb,Blue train\na,Red train\n")

    prepare.main(
        f"--name=Mine --output={tmp_path}/out --interactions={tmp_path}/orders.parquet "
        f"--items={tmp_path}/goods.csv --images={shop}/images --user-column=customer "
        f"--item-column=sku --time-column=day --item-text title=label".split()
    )

    inter = read(tmp_path / "out/Mine/Mine.inter")
    assert inter.to_numpy().tolist() == [["u", "b", "1577836800"], ["u", "a", "1577923200"]]
    items = read(tmp_path / "out/Mine/Mine.item")
    assert items["title:token_seq"].tolist() == ["Red train", "Blue train"]
    assert items["image:token"].tolist() == ["a.png", "b.png"]
    assert (tmp_path / "out/Mine/Mine.image.npz").is_file()


def test_ready_made_vectors_follow_their_items(shop, tmp_path):
    np.savez(
        shop / "clip_vit_b32.npz",
        item=np.array(["z", "c", "a"]),
        text=np.array([[9, 9], [3, 3], [1, 1]], np.float16),
        has_text=np.array([True, True, True]),
        image=np.array([[9, 9], [3, 3], [0, 0]], np.float16),
        has_image=np.array([True, True, False]),
    )
    other = tmp_path / "part"
    other.mkdir()
    (other / "interactions.csv").write_text("user,item\nu,c\nu,a\n")

    prepare.main([str(shop), "--output", str(tmp_path / "out")])
    prepare.main([str(other), "--output", str(tmp_path / "out"), "--vectors", str(shop)])

    text = read_item_features(tmp_path / "out/shop/shop.text.npz", ["[PAD]", "a", "b", "c"])
    assert text.values.tolist() == [[0, 0], [1, 1], [0, 0], [3, 3]]
    assert text.values.numpy().dtype == np.float16
    image = read_item_features(tmp_path / "out/part/part.image.npz", ["[PAD]", "a", "c"])
    assert image.present.tolist() == [False, False, True]


def test_features_of_other_items_are_set_aside(shop, tmp_path, capsys):
    out = tmp_path / "out"
    prepare.main([str(shop), f"--output={out}"])
    before = (out / "shop/shop.text.npz").read_bytes()
    prepare.main([str(shop), f"--output={out}", "--no-features"])
    assert (out / "shop/shop.text.npz").read_bytes() == before  # of the same items

    items = shop / "items.jsonl"
    items.write_text(items.read_text().replace("Blue toy train", "Blue boat"))
    capsys.readouterr()
    prepare.main([str(shop), f"--output={out}", "--no-features"])

    assert "renamed to shop.text.npz.old" in capsys.readouterr().out
    assert (out / "shop/shop.text.npz.old").read_bytes() == before
    assert PreparedDataset(out, "shop").modalities() == []
    assert PreparedDataset(out, "shop").card["features"] == {}

    prepare.main([str(shop), f"--output={out}"])
    again = (out / "shop/shop.text.npz").read_bytes()
    items.write_text(items.read_text().replace("Blue boat", "Red boat"))
    prepare.main([str(shop), f"--output={out}", "--no-features"])

    assert "renamed to shop.text.npz.old2" in capsys.readouterr().out
    kept = [(out / f"shop/shop.text.npz.{name}").read_bytes() for name in ("old", "old2")]
    assert kept == [before, again]


def test_options_win_over_vectors_that_only_lie_in_the_folder(shop, tmp_path):
    np.savez(shop / "clip_vit_b32.npz", item=np.array(["c"]), text=np.ones((1, 2), np.float16))

    prepare.main([str(shop), f"--output={tmp_path}", "--modalities", "text"])

    assert read_item_features(tmp_path / "shop/shop.text.npz", ["[PAD]", "c"]).values.shape[1] > 2
    prepare.main([str(shop), f"--output={tmp_path / 'tables'}", "--no-features"])
    assert PreparedDataset(tmp_path / "tables", "shop").modalities() == []
    with pytest.raises(InputError, match="--vectors has the features: omit"):
        prepare.main(
            [str(shop), f"--output={tmp_path / 'x'}", f"--vectors={shop}", "--no-features"]
        )


@pytest.mark.parametrize("role", ["user", "item"])
def test_ids_that_pandas_made_floats_of_are_integers(tmp_path, role):
    rows = pd.DataFrame(
        {"user": [1, 1, 2, 2], "item": [7, 8, 7, 8], "timestamp": [1e9, 2e9, 1e9, 2e9]}
    )
    rows[role] = rows[role].astype(float)
    pl.DataFrame(rows.to_dict("list")).write_parquet(tmp_path / "events.parquet")

    prepare.main(
        [
            f"--interactions={tmp_path}/events.parquet",
            "--name=Shop",
            f"--output={tmp_path}",
            "--no-features",
        ]
    )

    table = read(tmp_path / "Shop/Shop.inter")
    assert {*table["user_id:token"], *table["item_id:token"]} == {"1", "2", "7", "8"}


def test_vectors_that_are_no_archive_are_refused(shop, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4))

    with pytest.raises(InputError, match=r"a single array, expected an \.npz"):
        prepare.main([str(shop), f"--output={tmp_path}/out", f"--vectors={tmp_path}/v.npy"])


def test_a_set_without_texts_and_times_is_prepared(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,rating,timestamp\nu,x,,\nu,y,,\n")

    prepare.main([f"--interactions={tmp_path}/a.csv", f"--output={tmp_path}", "--name=bare"])

    assert (
        tmp_path / "bare/bare.inter"
    ).read_text() == "user_id:token\titem_id:token\nu\tx\nu\ty\n"
    names = sorted(path.name for path in (tmp_path / "bare").iterdir())
    assert names == ["bare.card.json", "bare.inter", "bare.item"]


def test_items_without_a_row_are_kept_and_repeated_rows_refused(shop, tmp_path):
    with open(shop / "items.jsonl", "a") as file:
        file.write('{"item": "a", "title": "again"}\n')

    with pytest.raises(InputError, match=r"1 item has more than one row, e.g. \['a'\]"):
        prepare.main([str(shop), "--output", str(tmp_path / "out")])


def test_items_of_another_data_set_are_refused(shop, tmp_path):
    (shop / "items.jsonl").write_text('{"item": "x", "title": "again"}\n')

    with pytest.raises(InputError, match="none of the 4 items of the interactions"):
        prepare.main([str(shop), "--output", str(tmp_path / "out")])


def test_a_core_that_leaves_nothing_says_so(shop, tmp_path):
    with pytest.raises(InputError, match="lower --core"):
        prepare.main([str(shop), "--output", str(tmp_path / "out"), "--core=9"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["user,item\nu,i,3,4,5\n", "", "\x00\x01"])
def test_a_malformed_table_is_named(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)

    with pytest.raises(InputError, match=r"a\.csv: "):
        prepare.main([f"--interactions={tmp_path}/a.csv", f"--output={tmp_path}/out"])


@pytest.mark.slow
def test_the_script_runs_as_a_file_and_bad_input_ends_without_traceback(repository, tmp_path):
    script = repository / "dataset_scripts" / "prepare.py"

    done = subprocess.run(
        [sys.executable, script, "--interactions=no.csv"],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2
    assert done.stderr.strip() == "recbole-mm: error: no.csv: no such file."


def test_pictures_are_found_from_any_working_directory(shop, tmp_path, monkeypatch):
    monkeypatch.chdir(shop.parent)
    prepare.main(["shop", "--output=out", "--no-features"])
    monkeypatch.chdir(tmp_path.parent)

    pictures = PreparedDataset(tmp_path / "out", "shop").pictures()

    assert [picture.is_file() for picture in pictures if picture] == [True] * 3


def made(tmp_path, *arguments, name="Mine"):
    prepare.main([f"--name={name}", f"--output={tmp_path / 'out'}", "--no-features", *arguments])
    return tmp_path / "out" / name


def test_every_option_of_a_foreign_export_in_a_folder_with_blanks(tmp_path, capsys):
    folder = tmp_path / "my shop"
    (folder / "photos 1").mkdir(parents=True)
    orders = "Kunde;Artikel;Datum\nMüller;a 1;31.12.2017 23:59\nMüller;b;01.01.2018 00:01\n"
    with gzip.open(folder / "orders 2017.csv.gz", "wb") as file:
        file.write(orders.encode("cp1252"))
    goods = "Nr;Name;Preis;PLZ\na 1;Café;2.50;01069\nb;Tee;;99999\nc;Neu;7;10115\n"
    (folder / "goods.csv").write_bytes(goods.encode("cp1252"))
    Image.new("RGB", (4, 4)).save(folder / "photos 1" / "a 1.BMP")

    prepared = made(
        tmp_path,
        f"--interactions={folder}/orders 2017.csv.gz",
        f"--items={folder}/goods.csv",
        f"--images={folder}/photos 1",
        "--separator=;",
        "--encoding=cp1252",
        "--time-format=%d.%m.%Y %H:%M",
        "--user-column=Kunde",
        "--item-column=Artikel",
        "--key-column=Nr",
        "--time-column=Datum",
        "--item-text",
        "title=Name",
        "--keep=price=Preis",
        "--keep=zip=PLZ",
        name="My shop",
    )

    assert read(prepared / "My shop.inter").to_numpy().tolist() == [
        ["Müller", "a 1", "1514764740"],
        ["Müller", "b", "1514764860"],
    ]
    items = read(prepared / "My shop.item")
    assert items.columns.tolist() == [
        "item_id:token", "title:token_seq", "price:float", "zip:token", "image:token",
    ]  # fmt: skip
    assert items.to_numpy().tolist() == [
        ["a 1", "Café", "2.5", "01069", "a 1.BMP"],
        ["b", "Tee", "", "99999", ""],
        ["c", "Neu", "7", "10115", ""],
    ]
    assert PreparedDataset(tmp_path / "out", "My shop").pictures()[0].is_file()
    card = json.loads((prepared / "My shop.card.json").read_text())
    assert card["kept"] == {"price": "float", "zip": "token"}
    assert (card["items"], card["items_without_interactions"]) == (3, 1)
    assert "3 items (1 without interactions), 2 interactions, 2017-12-31 to 2018-01-01" in (
        capsys.readouterr().out
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["My shop"]


def test_excel_sheets_become_a_data_set(tmp_path):
    pytest.importorskip("fastexcel")
    folder = tmp_path / "shop"
    folder.mkdir()
    day = datetime.date(2020, 1, 2)
    orders = [["user", "item", "timestamp"], ["u", 17, day], ["u", 18, day + datetime.timedelta(1)]]
    write_xlsx(folder / "interactions.xlsx", orders)
    write_xlsx(folder / "items.xlsx", [["item", "title", "price"], [17, "A", 1.5], [19, "New", 3]])

    prepared = made(tmp_path, str(folder), "--keep", "price")

    assert read(prepared / "Mine.inter").to_numpy().tolist() == [
        ["u", "17", "1577923200"],
        ["u", "18", "1578009600"],
    ]
    assert read(prepared / "Mine.item").to_numpy().tolist() == [
        ["17", "A", "1.5"],
        ["18", "", ""],
        ["19", "New", "3"],
    ]


def test_the_pictures_of_a_folder_are_found_without_a_column(shop, tmp_path):
    lines = (shop / "items.jsonl").read_text().splitlines()
    items = [json.loads(line) for line in lines]
    for item in items:
        item.pop("image", None)
    (shop / "items.jsonl").write_text("\n".join(map(json.dumps, items)))

    prepared = made(tmp_path, str(shop))

    assert read(prepared / "Mine.item")["image:token"].tolist() == [
        "a.png",
        "b.png",
        "c.png",
        "",
        "",
    ]


def test_items_without_interactions_are_candidates_only_if_the_item_table_is_loaded(shop, tmp_path):
    prepare.main([str(shop), f"--output={tmp_path}/dataset"])
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}
    names = []
    for given in ({}, {"load_col": columns}):
        config = load_config("UniSRec", "shop", (), {"data_path": f"{tmp_path}/dataset", **given})
        dataset = MultiModalDataset(config)
        names.append(sorted(dataset.field2id_token["item_id"][1:]))
        has_text = dataset.features["text"].present
        has = dict(zip(dataset.field2id_token["item_id"], has_text.tolist(), strict=True))
        assert (has["a"], has["d"]) == (True, False)

    assert names == [["a", "b", "c", "d"], ["a", "b", "c", "d", "never bought"]]
    assert has["never bought"]


def test_a_file_without_times_says_how_its_rows_are_read(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user,item,when\nu,x,2020-01-01\nu,y,2019-01-01\n")

    made(tmp_path, f"--interactions={tmp_path}/a.csv")

    out = capsys.readouterr().out
    assert "a.csv: no times; the order of its rows is taken as the order of events" in out
    assert "--time-column=COLUMN" in out


@pytest.mark.parametrize(
    ("times", "option", "expected"),
    [
        ((17361, 17362), "", "the latest is 1970-01-01. Expected times in s since 1970"),
        ((17361, 17362), "--time-unit=s", ""),
        ((1500000000, 1500000001), "", ""),
    ],
)
def test_times_that_are_hardly_seconds_are_reported(tmp_path, capsys, times, option, expected):
    rows = "".join(f"u,i{time},{time}\n" for time in times)
    (tmp_path / "a.csv").write_text(f"user,item,timestamp\n{rows}")

    made(tmp_path, f"--interactions={tmp_path}/a.csv", *[option] * bool(option))

    out = capsys.readouterr().out
    assert expected in out
    assert ("If they are not seconds, name the unit" in out) == bool(expected)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], r"name a folder, or the file of interactions with --interactions=FILE"),
        (["no"], r"no: no such folder"),
        (["shop", "--interactions=no.csv"], r"no.csv: no such file"),
        (["shop", "--items=no.csv"], r"no.csv: no such file"),
        (["shop", "--vectors=no.npz"], r"no.npz: no such file"),
        (["shop", "--vectors=shop"], r"shop/clip_vit_b32.npz: no such file"),
        (["shop", "--images=no"], r"no: no such folder"),
        (["shop/images"], r"shop/images: no interactions.csv in it .*--interactions=FILE"),
        (["both"], r"both: it has interactions.csv and interactions.tsv; .*--interactions=FILE"),
        (["shop", "--name=a/b"], r"'a/b' cannot be the name of a data set"),
        (["shop", "--name=a:b"], r"--name=NAME"),
        (["shop", "--name=.."], r"cannot be the name"),
        (["shop", "--keep=title"], r"already a field.*--keep item_title='title'"),
        (["shop", "--keep=Unit price"], r"'Unit price'.*--keep my_field='Unit price'"),
        (["both", "--interactions=both/interactions.csv", "--keep=price"], r"--items=FILE"),
        (["shop", "--item-text=price=x"], r"keep other columns with --keep"),
        (["shop", "--user-column=who"], r"no column 'who': name it with --user-column=COLUMN"),
        (["shop", "--time-column=when"], r"no column 'when': name it with --time-column=COLUMN"),
        (["shop", "--keep=price"], r"no column 'price': name it with --keep price=COLUMN"),
        (["shop", "--item-text=brand=maker"], r"name it with --item-text brand=COLUMN"),
    ],
)
def test_what_is_missing_names_its_option(shop, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(shop.parent)
    (tmp_path / "both").mkdir()
    for ending in ("csv", "tsv"):
        (tmp_path / "both" / f"interactions.{ending}").write_text("user,item\nu,i\n")

    with pytest.raises(InputError, match=words):
        prepare.main([*arguments, "--no-features"])


def test_the_tables_of_the_data_set_are_not_its_inputs(tmp_path):
    path = tmp_path / "out" / "Shop" / "Shop.inter"
    path.parent.mkdir(parents=True)
    path.write_text("user_id:token\titem_id:token\na\ti\n")
    given = [f"--interactions={path}", f"--output={tmp_path / 'out'}", "--separator=tab"]

    with pytest.raises(UserError, match=r"Shop\.inter is the same file as --interactions="):
        prepare.main([*given, "--user-column=user_id:token", "--item-column=item_id:token"])

    assert path.read_text() == "user_id:token\titem_id:token\na\ti\n"


@pytest.mark.parametrize("option", ["--separator=::", "--encoding=banana", "--time-unit=h"])
def test_an_option_that_has_no_meaning_is_refused(shop, capsys, option):
    with pytest.raises(SystemExit) as end:
        prepare.main([str(shop), option])

    assert end.value.code == 2
    assert option.partition("=")[2] in capsys.readouterr().err


def test_an_interruption_never_leaves_old_features_with_new_items(shop, tmp_path, monkeypatch):
    prepare.main([str(shop), f"--output={tmp_path}"])
    items = shop / "items.jsonl"
    items.write_text(items.read_text().replace("Blue toy train", "Blue boat"))

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepared, "write_interactions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.main([str(shop), f"--output={tmp_path}", "--no-features"])

    assert "Blue boat" in (tmp_path / "shop/shop.item").read_text()
    assert PreparedDataset(tmp_path, "shop").modalities() == []


def test_what_looks_like_a_mistake_in_the_tables_is_told_with_its_count(tmp_path, capsys):
    folder = tmp_path / "Mine"
    folder.mkdir()
    (folder / "interactions.csv").write_text(
        "user,item,timestamp\nu,a,5\nu,a,5\nu,a,5\nu,a,7\nv,x,9\n"
    )
    (folder / "items.csv").write_text("item,title\na,A\na,A\n")

    made(tmp_path, str(folder))

    out = capsys.readouterr().out
    assert (
        "interactions.csv: 2 events are equal to another in user, item and time, e.g. user 'u', item 'a' "
        "at 1970-01-01T00:00:05+00:00; all are kept (--repeats=first keeps one event per user and item)\n"
    ) in out
    assert (
        "items.csv: 1 row is equal to another in all columns that are read, e.g. that of item 'a'"
        in out
    )
    assert "items.csv: 1 item of the interactions without a row in it (1 event), e.g. 'x'; " in out
    assert "2 users, 2 items, 5 interactions, " in out


def test_tables_without_mistakes_are_told_of_in_one_line(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user,item,timestamp\nu,a,1500000000\nu,a,1500000001\n")

    made(tmp_path, f"--interactions={tmp_path}/a.csv")

    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith(
        ": 1 user, 1 item, 2 interactions, 2017-07-14 to 2017-07-14, features none"
    )


def test_repeated_events_of_which_one_is_kept_are_not_told_of(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("user,item,timestamp\nu,a,5\nu,a,5\n")

    made(tmp_path, f"--interactions={tmp_path}/a.csv", "--repeats=first")

    assert "equal" not in capsys.readouterr().out


def test_rows_that_are_left_out_are_counted_under_the_names_of_the_file(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("Kunde,Artikel\nu,a\n,b\n")

    made(
        tmp_path,
        f"--interactions={tmp_path}/a.csv",
        "--user-column=Kunde",
        "--item-column=Artikel",
        "--drop-bad-rows",
    )

    assert "a.csv: rows dropped: no Kunde: 1\n" in capsys.readouterr().out


def test_columns_that_are_not_used_are_listed_if_items_have_no_text_or_picture(
    shop, tmp_path, capsys
):
    rows = ["item,name,category,picture", "a,Red train,toys,images/a.png", "b,Blue train,toys,"]
    (tmp_path / "goods.csv").write_text("\n".join(rows) + "\n")
    command = ["--name=Mine", f"--interactions={shop}/interactions.csv",
               f"--items={tmp_path}/goods.csv", f"--output={tmp_path}/out"]  # fmt: skip

    prepare.main(command)

    assert (
        f"{tmp_path}/goods.csv: no text and no image of any item, but 3 columns are not used: name, "
        f"category, picture. Name one with --item-text title=COLUMN (or brand, categories, "
        f"description) for text; --item-text image=COLUMN for image"
    ) in capsys.readouterr().out
    prepare.main([*command, "--item-text", "title=name"])
    output = capsys.readouterr().out
    assert "no image of any item, but 2 columns are not used: category, picture." in output
    prepare.main([*command, "--item-text", "title=name", "--modalities", "text"])
    assert "not used" not in capsys.readouterr().out
