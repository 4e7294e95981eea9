"""What makes two runs the same."""

import hashlib

import pytest
import yaml

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.own_models import VARIABLE
from recbole_mm.run.identity import PLACES, data_hashes, digest


def test_hashes_follow_the_content_of_the_files(toy, tmp_path):
    config = load_config("SASRec", None, (), toy)
    before = data_hashes(config)
    path = tmp_path / "dataset/toy/toy.inter"
    path.write_text(path.read_text() + "u1\ti1\t2000000000\n")

    after = data_hashes(config)

    assert set(before) == {"toy.inter", "toy.text.npz", "toy.image.npz"}
    assert [name for name in before if before[name] != after[name]] == ["toy.inter"]


def test_every_file_that_recbole_reads_counts_whatever_the_name_of_the_data_set(tmp_path):
    folder = tmp_path / "shop[1]"
    folder.mkdir()
    suffixes = ("inter", "item", "user", "kg", "link", "net", "useremb", "text.npz")
    for suffix in (*suffixes, "card.json"):
        (folder / f"{folder.name}.{suffix}").touch()
    config = {
        "dataset": folder.name,
        "data_path": str(folder),
        "feature_path": None,
        "domains": None,
    }
    config |= {"exclude_users_of": None, "additional_feat_suffix": ["useremb"]}

    assert set(data_hashes(config)) == {f"{folder.name}.{suffix}" for suffix in suffixes}


def test_features_are_hashed_where_they_are_read(toy, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "toy.text.npz").write_bytes(b"other features")

    def hashes(**changes):
        return data_hashes(load_config("SASRec", None, (), {**toy, **changes}))

    of_own = hashes(feature_path=str(own))
    assert set(of_own) == {"toy.inter", "toy.text.npz"}
    assert of_own["toy.inter"] == hashes()["toy.inter"]
    assert of_own["toy.text.npz"] == hashlib.sha256(b"other features").hexdigest()


def test_a_mixture_has_the_hashes_of_its_domains(toy, tmp_path):
    (tmp_path / "dataset/both").mkdir()
    (tmp_path / "dataset/both/both.yaml").write_text(yaml.safe_dump({"domains": ["toy"]}))
    config = load_config("MMM4Rec", None, (), {**toy, "dataset": "both"})

    assert set(data_hashes(config)) == {"toy.inter", "toy.text.npz", "toy.image.npz"}


def test_a_digest_follows_settings_and_the_checkpoint_but_not_places(toy, tmp_path):
    start = tmp_path / "start.pth"
    start.write_bytes(b"one")

    def digest_of(**changes):
        config = load_config("MMM4Rec", None, (), {**toy, "pre_model_path": str(start), **changes})
        return digest(config, PLACES)

    first = digest_of()
    assert digest_of(feature_path="elsewhere", show_progress=False, gpu_id="1") == first
    assert digest_of(seed=7) != first
    assert digest(load_config("MMM4Rec", None, (), {**toy}), PLACES) != first
    start.write_bytes(b"two")
    assert digest_of() != first
    start.unlink()
    with pytest.raises(
        ConfigError, match=r"pre_model_path: the checkpoint '.*start.pth' does not exist"
    ):
        digest_of()
    start.mkdir()
    with pytest.raises(ConfigError, match="start.pth' is a folder without the files of a bundle"):
        digest_of()


def test_the_mixture_whose_users_are_left_out_counts_by_its_domains(toy, tmp_path):
    root = tmp_path / "dataset"
    for name in ("a", "b"):
        (root / name).mkdir()
        (root / name / f"{name}.inter").write_text("user_id:token\titem_id:token\nu1\ti1\n")
    (root / "mix").mkdir()
    (root / "mix/mix.yaml").write_text(yaml.safe_dump({"domains": ["a", "b"]}))
    config = load_config("SASRec", None, (), {**toy, "exclude_users_of": ["mix"]})

    assert {"a.inter", "b.inter"} <= set(data_hashes(config))


def test_a_digest_follows_the_module_of_a_model_of_the_users(toy, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    file = tmp_path / "module_of_mine.py"
    code = "from recbole.model.sequential_recommender import SASRec\nclass Mine(SASRec): pass\n"
    file.write_text(code)
    settings = {**toy, "model": "module_of_mine:Mine"}

    before = digest(load_config(None, None, (), settings), PLACES)
    file.write_text(code + "# other code\n")

    assert digest(load_config(None, None, (), settings), PLACES) != before
