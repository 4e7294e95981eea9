import pandas as pd
import pytest
import yaml

from recbole_mm.data.domains import MixtureError
from recbole_mm.prepare.commands import extract as extract_features
from recbole_mm.prepare.commands import mix, prepare
from recbole_mm.prepare.inputs import InputError


@pytest.fixture
def out(shop, tmp_path):
    """Two domains of the same items in one space."""
    out = tmp_path / "out"
    for name in ("Food", "Home"):
        prepare.main([f"{shop}", f"--output={out}", f"--name={name}", "--no-features"])
    extract_features.main(["Food", "Home", f"--output={out}"])
    return out


def test_tokens_carry_their_domain_and_features_stay_where_they_are(out):
    mix.main(["Both", "Food", "Home", f"--output={out}"])

    table = pd.read_csv(out / "Both" / "Both.inter", sep="\t")
    food = pd.read_csv(out / "Food" / "Food.inter", sep="\t")
    assert len(table) == 2 * len(food)
    assert table["item_id:token"][0] == "Food:a" and table["user_id:token"][7] == "Home:u1"
    settings = yaml.safe_load((out / "Both" / "Both.yaml").read_text())
    assert settings == {"domains": ["Food", "Home"], "modalities": ["text", "image"]}
    assert list((out / "Both").glob("*.npz")) == []


def test_a_domain_without_times_makes_a_mixture_without_times(out, tmp_path):
    (tmp_path / "a.csv").write_text("user,item\nu,a\nu,b\n")
    prepare.main([f"--interactions={tmp_path}/a.csv", f"--output={out}", "--name=Bare"])

    mix.main(["Both", "Food", "Bare", f"--output={out}"])

    assert (out / "Both" / "Both.inter").read_text().startswith("user_id:token\titem_id:token\n")
    assert yaml.safe_load((out / "Both" / "Both.yaml").read_text())["modalities"] == []


def test_a_domain_twice_is_refused(out):
    with pytest.raises(MixtureError, match=r"duplicate domains \['Food'\]"):
        mix.main(["Both", "Food", "Home", "Food", f"--output={out}"])
    with pytest.raises(MixtureError, match="cannot be its own domain"):
        mix.main(["Food", "Food", "Home", f"--output={out}"])


def test_features_of_different_spaces_are_refused_with_the_fix(out):
    extract_features.main(["Home", f"--output={out}"])

    with pytest.raises(MixtureError, match=r"space.*recbole-mm extract Food Home"):
        mix.main(["Both", "Food", "Home", f"--output={out}"])


def test_an_empty_domain_is_refused(out):
    (out / "Home" / "Home.inter").write_text("user_id:token\titem_id:token\n")

    with pytest.raises(InputError, match=r"Home.inter: no interactions"):
        mix.main(["Both", "Food", "Home", f"--output={out}"])
