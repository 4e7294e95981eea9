import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

from recbole_mm.data.features import read_feature_info, read_item_features
from recbole_mm.prepare.commands import prepare
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset


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
    assert items["item_id:token"].tolist() == ["a", "b", "c", "d"]
    assert items["title:token_seq"].tolist() == ['Red "toy" train', "Blue toy train", "", ""]
    assert "categories:token_seq" not in items
    tokens = ["[PAD]", "a", "b", "c", "d"]
    for modality in ("text", "image"):
        features = read_item_features(folder / f"shop.{modality}.npz", tokens)
        assert features.present.tolist() == [False, True, True, True, False]
        info = read_feature_info(folder / f"shop.{modality}.npz")
        assert (info["encoder"], info["coverage"], info["date"]) == ("embedded", 0.75, "2023-11-14")


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


def test_vectors_that_are_no_archive_are_refused(shop, tmp_path):
    np.save(tmp_path / "v.npy", np.eye(4))

    with pytest.raises(InputError, match=r"one array; expected an \.npz"):
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

    with pytest.raises(InputError, match=r"1 items have more than one row, e.g. \['a'\]"):
        prepare.main([str(shop), "--output", str(tmp_path / "out")])


def test_items_of_another_data_set_are_refused(shop, tmp_path):
    (shop / "items.jsonl").write_text('{"item": "x", "title": "again"}\n')

    with pytest.raises(InputError, match="none of the 4 items"):
        prepare.main([str(shop), "--output", str(tmp_path / "out")])


def test_a_core_that_leaves_nothing_says_so(shop, tmp_path):
    with pytest.raises(InputError, match="lower --core"):
        prepare.main([str(shop), "--output", str(tmp_path / "out"), "--core=9"])


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
