import errno
import tempfile
from pathlib import Path

import pytest
import yaml

from recbole_mm.cli import main
from recbole_mm.prepare.folders import dataset_folder, refuse_unusable_name
from recbole_mm.prepare.inputs import InputError
from recbole_mm.tools import files


@pytest.fixture
def root(tmp_path):
    for name in ("Shoes", "My shop"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.inter").touch()
    return tmp_path


def test_a_data_set_is_found_by_its_name(root):
    assert dataset_folder(root, "My shop") == root / "My shop"


def test_a_misspelt_data_set_names_the_nearest_those_that_exist_and_the_command(root):
    with pytest.raises(InputError) as error:
        dataset_folder(root, "shoe")

    first, existing, own, *_ = str(error.value).splitlines()
    assert first.endswith("shoe.inter does not exist; did you mean 'Shoes'?")
    assert existing == f"Data sets in {root}: My shop, Shoes (another folder: --output=FOLDER)"
    assert own.startswith("Create one from your own tables with: recbole-mm prepare FOLDER")


def test_a_known_data_set_that_is_not_there_names_its_command(root):
    with pytest.raises(InputError, match=r"(?s)Create it with:\n  recbole-mm amazon Pantry"):
        dataset_folder(root, "Pantry")


@pytest.mark.parametrize("name", ["Toys", "My shop", "shop-2.1_b+c", "Läden"])
def test_names_of_letters_digits_and_few_marks_are_usable(name):
    refuse_unusable_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "a:b", "-a", " a", "a ", "a.", "[a]", "*"]
)
def test_names_that_would_be_paths_options_or_patterns_are_refused(name):
    with pytest.raises(InputError, match=r"cannot be the name of a data set.*--name=NAME"):
        refuse_unusable_name(name)


def write_mirrors() -> None:
    """A file of addresses at which nothing answers."""
    address = ["http://127.0.0.1:9/{category}"]
    layouts = {2018: {"reviews": address, "meta": address}}
    Path("m.yaml").write_text(yaml.safe_dump({"layouts": layouts}))


@pytest.fixture
def read_only(monkeypatch):
    """A function that makes a folder one in which nobody, root included, can write."""

    def make(folder: Path):
        class Refusing:
            def __getattr__(self, name):
                return getattr(tempfile, name)

            def TemporaryFile(self, dir):
                if Path(dir) == folder.absolute():
                    raise PermissionError(errno.EACCES, "Permission denied", str(dir))
                return tempfile.TemporaryFile(dir=dir)

        monkeypatch.setattr(files, "tempfile", Refusing())

    return make


@pytest.mark.parametrize(
    ("arguments", "folder"),
    [
        (["prepare", "shop"], "dataset"),
        (["prepare", "shop"], "dataset/shop"),
        (["prepare", "shop", "--output=dataset/deep/er"], "dataset"),
        (["extract", "shop"], "dataset/shop"),
        (["inspect", "shop"], "dataset/shop"),
        (["mix", "Both", "shop", "twin"], "dataset"),
        (["convert", "missrec", "shop"], "dataset"),
        (["amazon", "--name=Mine", "--reviews=shop/interactions.csv"], "dataset"),
    ],
)
def test_a_folder_without_the_right_to_write_is_refused_before_anything_changes(
    shop, capsys, read_only, arguments, folder
):
    for name in ("shop", "twin"):
        assert main(["prepare", str(shop), f"--name={name}"]) == 0
    before = {path: path.read_bytes() for path in Path("dataset").rglob("*") if path.is_file()}
    read_only(Path(folder))

    assert main(arguments) == 2

    message = capsys.readouterr().err
    assert f"cannot write to the folder '{Path(folder).absolute()}': Permission denied" in message
    assert "Give another --output" in message
    after = {path: path.read_bytes() for path in Path("dataset").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("command", ["prepare shop", "amazon Pantry --download --mirrors=m.yaml"])
def test_a_file_in_the_place_of_the_folder_is_refused(shop, capsys, command):
    write_mirrors()
    Path("dataset").write_text("a file where a folder should be")

    assert main(command.split()) == 2

    assert "cannot write to the folder" in capsys.readouterr().err
    assert shop.is_dir()


def test_downloads_need_a_folder_that_can_be_written(capsys, read_only, tmp_path):
    write_mirrors()
    Path("raw").mkdir()
    read_only(Path("raw"))

    assert main(["amazon", "Pantry", "--download", "--mirrors=m.yaml"]) == 2

    message = capsys.readouterr().err
    assert f"cannot write to the folder '{tmp_path / 'raw'}': Permission denied" in message
    assert "--raw=FOLDER" in message
