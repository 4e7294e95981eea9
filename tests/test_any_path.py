"""Folders and files may have any name, patterns of other programs too."""

import re

import numpy as np
import polars as pl
import pytest
from tiny import TINY_MMM4REC
from xlsx import write_xlsx

from recbole_mm.cli import main
from recbole_mm.prepare.table_files import scan_table

NAME = "a[1] é %{x}"


def write_shop(folder):
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    rows = [
        f"u{user},sku{random.integers(9)},{1_500_000_000 + event}"
        for user in range(20)
        for event in range(6)
    ]
    (folder / "interactions.csv").write_text("user,item,timestamp\n" + "\n".join(rows) + "\n")
    items = [f'{{"item": "sku{i}", "title": "thing {i}"}}' for i in range(9)]
    (folder / "items.jsonl").write_text("\n".join(items) + "\n")


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_commands_work_in_a_folder_of_any_name(tmp_path, monkeypatch, capsys):
    place = tmp_path / NAME
    write_shop(place / "Shop[2]")
    monkeypatch.chdir(place)
    small = [f"--{key}={value}" for key, value in {**TINY_MMM4REC, "epochs": 1}.items()]

    assert main(["prepare", "Shop[2]", "--name=Shop"]) == 0
    checkpoints = f"--checkpoint_dir={place / 'saved[3]'}"
    assert main(["--model=MMM4Rec", "--dataset=Shop", *small, checkpoints]) == 0
    (model,) = (place / "saved[3]").glob("*.pth")
    for name in ("top[4].csv", "top[4].parquet", "top[4].jsonl"):
        assert main(["recommend", f"--model={model}", f"--output={place / name}", "--k=2"]) == 0
        assert len(scan_table(place / name).collect()) == 40
    command = ["compare", "--models=Popularity", "--dataset=Shop", "--seeds=1", "--out=cmp[5]"]
    assert main(command) == 0
    capsys.readouterr()
    assert main(command) == 0
    assert "1 runs, 1 of them already finished" in capsys.readouterr().out
    assert not list((place / "cmp[5]").rglob("*.damaged"))


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet", "xlsx"])
def test_a_table_is_read_and_not_those_that_its_name_would_match(tmp_path, ending):
    named, other = (tmp_path / f"{name}.{ending}" for name in ("ev[1]", "ev1"))
    for path, user in ((named, "mine"), (other, "theirs")):
        table = pl.DataFrame({"user": [user], "item": ["a"]})
        if ending == "parquet":
            table.write_parquet(path)
        elif ending == "xlsx":
            pytest.importorskip("fastexcel")
            write_xlsx(path, [table.columns, *table.rows()])
        elif ending == "jsonl":
            table.write_ndjson(path)
        else:
            table.write_csv(path, separator="\t" if ending == "tsv" else ",")

    assert scan_table(named).collect()["user"].to_list() == ["mine"]


def test_no_path_is_a_pattern_for_polars(repository):
    opens = re.compile(
        r"pl\.(?:scan_\w+|read_parquet\w*|read_csv|read_ndjson|read_ipc)\(\s*(.{0,60})"
    )
    safe = re.compile(r"(\[|list\(map\(|Path\()?pattern_of\b|io\.BytesIO\(|chunk\b")
    wrong = [
        f"{path.name}: {found.group(0)}"
        for path in (repository / "recbole_mm").rglob("*.py")
        for found in opens.finditer(path.read_text())
        if not safe.match(found.group(1))
    ]

    assert wrong == []
