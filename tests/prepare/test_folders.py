import pytest

from recbole_mm.prepare.folders import dataset_folder, refuse_unusable_name
from recbole_mm.prepare.inputs import InputError


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
