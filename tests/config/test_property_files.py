import pytest

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.property_files import find_config_file, forms_in, properties_dir, read_layers


@pytest.mark.parametrize(
    "name",
    ["transfer/MMM4Rec_demo.yaml", "properties/transfer/MMM4Rec_demo.yaml", "overall.yaml"],
)
def test_files_of_this_package_are_found_from_every_folder(name):
    path = find_config_file(name)

    assert path == properties_dir() / name.removeprefix("properties/")
    assert read_layers([name])


def test_a_file_of_the_user_comes_first(tmp_path):
    (tmp_path / "overall.yaml").write_text("epochs: 3\n")

    assert read_layers(["overall.yaml"]) == {"epochs": 3}


def test_a_name_with_blanks_is_one_file(tmp_path):
    (tmp_path / "my file.yaml").write_text("epochs: 3\n")

    assert read_layers(["my file.yaml"]) == {"epochs": 3}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.yaml", "config file 'nowhere.yaml' does not exist$"),
        ("transfer/MMM4Rec_dmo.yaml", "did you mean 'transfer/MMM4Rec_demo.yaml' in this package"),
        ("properties/../../etc/x.yaml", "does not exist"),
        ("a.yaml b.yaml", "by several options: --config_files=a.yaml --config_files=b.yaml"),
    ],
)
def test_a_file_that_does_not_exist_is_refused_with_the_way_on(tmp_path, name, message):
    for file in ("a.yaml", "b.yaml"):
        (tmp_path / file).write_text("")

    with pytest.raises(ConfigError, match=message):
        find_config_file(name)


def test_a_comment_that_is_not_a_form_leaves_the_form_to_the_default(tmp_path):
    path = tmp_path / "Mine.yaml"
    path.write_text(
        "a: 1       # (see the paper) A number.\n"
        "b: 1       # (int, >= 1) (again) A number.\n"
        "c: 0.5     # (int) Not what the comment says.\n"
        "d: ' # ('  # (one of: x, # y) Text.\n"
        "e:         # (dict) A mapping.\n"
        "  f: 1     # (int, < 2) A field.\n"
        "g-h: ~\n"
    )

    forms = forms_in(path)

    assert [forms[key].words for key in "abce"] == [
        "a whole number",
        "a whole number >= 1",
        "a number",
        "a mapping with the keys f",
    ]
    assert forms["e"].fields["f"].words == "a whole number < 2"
    assert forms["g-h"].words == "any value"
