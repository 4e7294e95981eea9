import os
import sys
from pathlib import Path

import pytest

from recbole_mm.config import own_models as module
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.models import model_name, source_of
from recbole_mm.config.own_models import VARIABLE, OwnModel, installed_models, own_models


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in ("mine", "mine_too"):
        sys.modules.pop(name, None)


def test_a_class_is_known_by_its_name_from_then_on_and_to_child_processes():
    Path("mine.py").write_text("class Mine: ...\n")

    assert model_name("mine:Mine") == "Mine"

    assert own_models() == {"Mine": OwnModel("mine", "Mine")}
    assert model_name("Mine") == "Mine"
    assert os.environ[VARIABLE] == "mine:Mine"
    assert "mine" not in sys.modules, "nothing is imported before it is needed"
    assert source_of("Mine").load().__module__ == "mine"


def test_its_files_lie_beside_its_module():
    Path("folder").mkdir()
    Path("folder/mine.py").write_text("")
    sys.path.append(str(Path("folder").absolute()))
    own = OwnModel("mine", "Mine")

    assert own.file(".yaml") is None
    Path("folder/mine.yaml").write_text("")
    assert own.file(".yaml").name == "mine.yaml"
    Path("folder/Mine.yaml").write_text("")
    assert own.file(".yaml").name == "Mine.yaml"


def test_a_module_of_the_working_directory_hides_no_installed_one():
    Path("yaml.py").write_text("raise RuntimeError\n")
    Path("mine.py").write_text("import yaml\n\n\nclass Mine:\n    dump = yaml.safe_dump\n")

    assert model_name("mine:Mine") == "Mine"
    assert source_of("Mine").load().dump([1]) == "- 1\n"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mine:", "write my_module:MyModel"),
        ("../mine:Mine", "write my_module:MyModel"),
        ("os.path;x:Mine", "write my_module:MyModel"),
        ("nowhere:Mine", "'nowhere' is neither a module in the working directory"),
        ("nowhere.at.all:Mine", "'nowhere.at.all' is neither a module"),
        ("mine:SASRec", "SASRec has the same name"),
        ("mine:mmm4rec", "MMM4Rec has the same name"),
    ],
)
def test_what_cannot_be_a_model_is_refused(model, message):
    Path("mine.py").write_text("class Mine: ...\n")

    with pytest.raises(ConfigError, match=message):
        model_name(model)
    assert own_models() == {}


def test_two_models_of_one_name_are_refused():
    for name in ("mine.py", "mine_too.py"):
        Path(name).write_text("class Mine: ...\n")
    model_name("mine:Mine")

    with pytest.raises(ConfigError, match="'mine_too:Mine': mine:Mine has the same name"):
        model_name("mine_too:Mine")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_like_it\n", "cannot be imported: ModuleNotFoundError: No module named"),
        ("1 +\n", "cannot be imported: SyntaxError"),
        ("raise KeyError('x')\n", "cannot be imported: KeyError: 'x'"),
        ("class Other: ...\n", "has no class 'Mine'; it has Other"),
        ("Mine = 3\n", "has no class 'Mine'; it has no classes"),
    ],
)
def test_a_module_without_the_class_is_a_users_mistake(code, message):
    Path("mine.py").write_text(code)
    model_name("mine:Mine")

    with pytest.raises(ConfigError, match=f"model 'mine:Mine': .*{message}"):
        source_of("Mine").load()


def test_an_installed_package_declares_its_models(tmp_path, monkeypatch):
    info = tmp_path / "site" / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[recbole_mm.models]\nMine = mine:Mine\n")
    (tmp_path / "site" / "mine.py").write_text("class Mine: ...\n")
    sys.path.append(str(tmp_path / "site"))
    monkeypatch.setattr(module, "installed_models", installed_models.__wrapped__)
    monkeypatch.setattr("recbole_mm.config.models.installed_models", installed_models.__wrapped__)

    assert model_name("Mine") == "Mine"

    assert "mine" not in sys.modules
    assert source_of("Mine").load().__module__ == "mine"
    assert os.environ[VARIABLE] == "mine:Mine"
