import shutil

import pandas as pd
import pytest
import recbole

from recbole_mm.data import builtin, demo
from recbole_mm.data.builtin import DEMO_FEATURES, DEMO_TABLES, ensure_builtin
from recbole_mm.data.feature_files import read_feature_info
from recbole_mm.data.features import read_item_features
from recbole_mm.tools.errors import UserError

DEMO_FILES = (*DEMO_TABLES, *DEMO_FEATURES)


@pytest.fixture
def quick_demo(monkeypatch):
    """Stand-in files instead of the real demo; counts how often it is made."""
    made = []

    def make(folder):
        (folder / "images").mkdir(parents=True)
        for name in [*DEMO_FILES, "images/a.png"]:
            (folder / name).write_text(name)
        made.append(folder)
        return folder

    monkeypatch.setattr(demo, "make_demo", make)
    return made


def config_of(name, folder, feature_path=None):
    return {"dataset": name, "data_path": str(folder), "feature_path": feature_path}


def test_the_demo_is_made_once(tmp_path, quick_demo):
    folder = tmp_path / "dataset" / "demo"

    ensure_builtin(config_of("demo", folder))
    ensure_builtin(config_of("demo", folder))

    assert len(quick_demo) == 1
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert files == sorted([*DEMO_FILES, "images/a.png"])
    assert [path.name for path in folder.parent.iterdir()] == ["demo"]


@pytest.mark.usefixtures("quick_demo")
def test_a_demo_with_a_lost_file_is_completed(tmp_path):
    folder = tmp_path / "demo"
    ensure_builtin(config_of("demo", folder))
    (folder / "demo.text.npz").unlink()

    ensure_builtin(config_of("demo", folder))

    assert (folder / "demo.text.npz").is_file()


def test_features_of_the_demo_are_made_where_they_are_looked_for(tmp_path, quick_demo):
    config = config_of("demo", tmp_path / "dataset" / "demo", str(tmp_path / "features"))

    ensure_builtin(config)
    ensure_builtin(config)

    assert len(quick_demo) == 1
    assert sorted(p.name for p in (tmp_path / "features").iterdir()) == sorted(DEMO_FEATURES)
    assert not set(DEMO_FEATURES) & {p.name for p in (tmp_path / "dataset" / "demo").iterdir()}


@pytest.mark.usefixtures("quick_demo")
def test_features_may_lie_in_a_folder_below_the_demo(tmp_path):
    folder = tmp_path / "demo"

    ensure_builtin(config_of("demo", folder, str(folder / "features")))

    assert sorted(p.name for p in (folder / "features").iterdir()) == sorted(DEMO_FEATURES)


@pytest.mark.usefixtures("quick_demo")
def test_features_of_a_folder_of_ones_own_stay_as_they_are(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "demo.text.npz").write_text("mine")

    ensure_builtin(config_of("demo", tmp_path / "demo", str(own)))

    assert [(path.name, path.read_text()) for path in own.iterdir()] == [("demo.text.npz", "mine")]
    assert (tmp_path / "demo" / "demo.inter").is_file()


@pytest.mark.usefixtures("quick_demo")
def test_what_is_there_of_a_demo_is_not_written_again(tmp_path):
    folder = tmp_path / "demo"
    ensure_builtin(config_of("demo", folder))
    (folder / "demo.inter").write_text("changed")
    (folder / "demo.image.npz").unlink()

    ensure_builtin(config_of("demo", folder))

    assert (folder / "demo.inter").read_text() == "changed"
    assert (folder / "demo.image.npz").read_text() == "demo.image.npz"


def test_an_interrupted_demo_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(folder):
        folder.mkdir()
        (folder / "demo.inter").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "make_demo", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ensure_builtin(config_of("demo", tmp_path / "demo"))

    assert list(tmp_path.rglob("*.inter")) == []


def test_other_data_sets_are_left_alone(tmp_path):
    ensure_builtin(config_of("Toys", tmp_path / "Toys"))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_names_the_option(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UserError, match="--data_path"):
        ensure_builtin(config_of("demo", tmp_path / "file" / "demo"))


def test_ml_100k_gets_text_features_beside_a_folder_that_is_only_read(tmp_path):
    source = f"{recbole.__path__[0]}/dataset_example/ml-100k"
    folder = tmp_path / "ml-100k"
    shutil.copytree(source, folder)

    ensure_builtin(config_of("ml-100k", folder, feature_path=str(tmp_path / "features")))

    path = tmp_path / "features" / "ml-100k.text.npz"
    tokens = pd.read_csv(folder / "ml-100k.item", sep="\t", dtype=str)["item_id:token"]
    assert read_item_features(path, ["[PAD]", *tokens]).present[1:].all()
    assert read_feature_info(path)["encoder"] == "embedded"
    assert sorted(builtin.BUILTIN) == ["demo", "ml-100k"]
