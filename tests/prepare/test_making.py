"""A command that fails leaves the data set as it was, or one that nothing trains on."""

import errno
import json
import os
from pathlib import Path

import pytest

from recbole_mm.cli import main
from recbole_mm.prepare.earlier import EarlierFiles
from recbole_mm.prepare.making import command_to_resume, made_whole
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.tools import files

TRAINED = ["--model=SASRecPlus", "--dataset=shop", "--epochs=1", "--use_gpu=False"]


def bytes_of(folder) -> dict[str, bytes]:
    """All files, hidden ones too."""
    paths = (path for path in Path(folder).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def data_set_of(folder) -> dict[str, bytes]:
    """All files, without chunks of features that the next run reuses."""
    return {name: data for name, data in bytes_of(folder).items() if ".partial" not in name}


@pytest.fixture
def yesterday(shop):
    """A data set of the shop, whose items change afterwards."""
    assert main(["prepare", str(shop)]) == 0
    items = shop / "items.jsonl"
    items.write_text(items.read_text().replace("Blue toy train", "Blue boat"))
    with open(items, "a") as file:
        file.write(json.dumps({"item": "new", "title": "A kite", "image": "images/a.png"}) + "\n")
    with open(shop / "interactions.csv", "a") as file:
        file.write("u3,new,5,500\n")
    return shop


@pytest.fixture
def today(yesterday):
    """The files of a data set of these items that is made in one go."""
    kept = Path("dataset").rename("kept")
    assert main(["prepare", str(yesterday)]) == 0
    files_of_today = bytes_of("dataset")
    Path("dataset").rename("other")
    kept.rename("dataset")
    return files_of_today


def full_at(monkeypatch, write: int):
    """Let the disk be full at a write, counted from 0; the others succeed."""
    written = []

    def move(source, target):
        written.append(str(target))
        if len(written) == write + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.replace(source, target)

    monkeypatch.setattr(files, "move_onto", move)
    return written


@pytest.mark.parametrize("exists", [True, False])
def test_a_disk_that_is_full_at_any_write_leaves_the_earlier_data_set(
    yesterday, today, exists, capsys
):
    if not exists:
        Path("dataset").rename("not there")
    before, failed = bytes_of("dataset"), 0
    while True:
        with pytest.MonkeyPatch.context() as patch:
            written = full_at(patch, failed)
            status = main(["prepare", str(yesterday)])
        if status == 0:
            break
        assert status == 1
        assert f"No space left on device: '{written[-1]}'" in capsys.readouterr().err
        assert data_set_of("dataset") == before
        failed += 1
        assert main(["prepare", str(yesterday)]) == 0
        assert bytes_of("dataset") == today
        Path("dataset").rename(f"tried {failed}")
        for name, content in before.items():
            Path("dataset", name).parent.mkdir(parents=True, exist_ok=True)
            Path("dataset", name).write_bytes(content)

    assert failed >= 7
    assert bytes_of("dataset") == today


def test_pictures_that_cannot_be_read_leave_the_earlier_data_set_which_trains(yesterday, capsys):
    assert main(["prepare", str(yesterday)]) == 0
    before = bytes_of("dataset")
    for picture in (yesterday / "images").iterdir():
        picture.rename(picture.with_suffix(".moved"))
    items = yesterday / "items.jsonl"
    items.write_text(items.read_text().replace("Blue boat", "Blue ship"))

    assert main(["prepare", str(yesterday)]) == 2
    assert "none of 4 items could be used" in capsys.readouterr().err
    assert data_set_of("dataset") == before
    assert main(TRAINED) == 0


def test_pictures_that_cannot_be_read_leave_no_new_data_set(shop, capsys):
    for picture in (shop / "images").iterdir():
        picture.unlink()

    assert main(["prepare", str(shop)]) == 2
    assert main(TRAINED) == 2
    assert "dataset/shop/shop.inter does not exist" in capsys.readouterr().err


def test_what_cannot_even_be_put_back_is_refused_until_the_command_succeeds(
    yesterday, today, monkeypatch, capsys
):
    command = ["prepare", str(yesterday)]
    with monkeypatch.context() as patch:
        patch.setattr(EarlierFiles, "put_back", lambda _: (_ for _ in ()).throw(OSError("full")))
        full_at(patch, 3)
        assert main(command) == 1

    assert main(TRAINED) == 2
    assert f"Resume it with:\n  recbole-mm prepare {yesterday}" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        full_at(patch, 3)
        assert main(command) == 1
    assert command_to_resume("dataset", "shop") is None  # it is that of yesterday again
    assert "Blue toy train" in Path("dataset/shop/shop.item").read_text()
    assert main(command) == 0
    assert bytes_of("dataset") == today


def test_an_interruption_while_files_are_put_back_loses_none(tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    for name in ("toy.inter", "toy.item"):
        (folder / name).write_text(f"old {name}")
    earlier = EarlierFiles(tmp_path, "toy")
    earlier.keep()
    for name in ("toy.inter", "toy.item", "toy.text.npz"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(f"new {name}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            earlier.put_back()
    earlier.keep()
    earlier.put_back()

    assert {p.name: p.read_text() for p in folder.iterdir()} == {
        "toy.inter": "old toy.inter",
        "toy.item": "old toy.item",
    }
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("has_links", [True, False])
def test_a_failure_puts_back_every_file_with_or_without_hard_links(
    tmp_path, monkeypatch, has_links
):
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    (tmp_path / "toy").mkdir()
    for name in ("toy.inter", "toy.text.npz", "notes.txt"):
        (tmp_path / "toy" / name).write_text(name)
    before = bytes_of(tmp_path)

    with pytest.raises(ZeroDivisionError), made_whole(tmp_path, "toy", "recbole-mm prepare toy"):
        (tmp_path / "toy/toy.text.npz").unlink()
        files.write_text(tmp_path / "toy/toy.inter", "new")
        files.write_text(tmp_path / "toy/toy.item", "new")
        _ = 1 / 0

    assert bytes_of(tmp_path) == before


def test_features_that_are_made_again_are_not_set_aside(yesterday, capsys):
    capsys.readouterr()
    assert main(["prepare", str(yesterday), "--modalities", "text"]) == 0

    output = capsys.readouterr().out
    assert "shop.text.npz:" not in output
    assert "shop.image.npz: created for other items" in output
    assert sorted(Path("dataset/shop").glob("*.old")) == [Path("dataset/shop/shop.image.npz.old")]
    assert PreparedDataset("dataset", "shop").modalities() == ["text"]


def test_a_failure_leaves_files_that_are_not_of_the_command(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.inter").write_text("yesterday")
    (folder / "shop.yaml").write_text("epochs: 3")

    def fail():
        with made_whole(tmp_path, "shop", "command"):
            files.write_text(folder / "shop.inter", "today")
            (folder / "shop.yaml").write_text("epochs: 4")
            raise ValueError

    with pytest.raises(ValueError):
        fail()

    assert (folder / "shop.inter").read_text() == "yesterday"
    assert (folder / "shop.yaml").read_text() == "epochs: 4"
