import shlex
from pathlib import Path

import pytest

from recbole_mm.prepare.catalog import (
    LackingData,
    described_datasets,
    lacking_datasets,
    require_dataset,
)
from recbole_mm.prepare.commands import amazon, prepare
from recbole_mm.prepare.mirrors import Mirrors

PARSERS = {"amazon": amazon.read_arguments, "prepare": prepare.read_arguments}


def command_of(name) -> list[str]:
    """The words of the first command in the first line of its property file."""
    return shlex.split(described_datasets()[name].rpartition("recbole-mm ")[2].partition("  (")[0])


@pytest.mark.parametrize("name", described_datasets())
def test_the_command_that_makes_a_data_set_is_one_and_makes_it_in_an_empty_folder(tmp_path, name):
    command, *arguments = command_of(name)
    if command.startswith("--"):  # made by the run itself
        assert f"--dataset={name}" in arguments
        return
    for folder, file in ((name, "interactions.csv"), ("Toys", "clip_vit_b32.npz")):
        (tmp_path / "FOLDER" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "FOLDER" / folder / file).touch()

    args = PARSERS[command](arguments)

    assert args.name == name
    if command == "amazon":
        assert args.download and args.pictures
        assert Mirrors().source(args.category, args.layout) is not None


def message_about(name, root="dataset", **config):
    settings = {"domains": None, "exclude_users_of": None, "benchmark_filename": None, **config}
    settings |= {"dataset": name, "data_path": f"{root}/{name}"}
    with pytest.raises(LackingData) as error:
        require_dataset(settings)
    return str(error.value)


def test_an_unknown_data_set_has_what_helps_most_first(toy):
    lines = message_about("Pantri", root=toy["data_path"]).splitlines()

    assert lines[0].endswith("Pantri.inter does not exist; did you mean 'Pantry'?")
    assert lines[1].startswith(f"Data sets in {toy['data_path']}: toy (another folder")
    assert lines[2].startswith("Create one from your own tables with: recbole-mm prepare FOLDER ")
    assert lines[3] == f"Known data sets: {', '.join(described_datasets())}"
    assert lines[4:] == [
        "recbole-mm --help says how to create each; recbole-mm amazon --help lists all of Amazon's"
    ]


def test_the_help_of_amazon_names_all_categories(capsys):
    with pytest.raises(SystemExit):
        amazon.main(["--help"])

    words = capsys.readouterr().out.replace(",", " ").split()
    categories = [name for lists in Mirrors().layouts.values() for name in lists["categories"]]
    assert not set(categories) - set(words)


@pytest.mark.parametrize("name", ["{root}/toy", "toy/", "else\\toy", "../{root}/toy/"])
def test_a_path_of_a_data_set_is_told_from_its_name(toy, monkeypatch, name):
    root = Path(toy["data_path"])
    monkeypatch.chdir(root.parent)

    lines = message_about(name.format(root=root.name), root=root.name).splitlines()

    wrong = "it is a path, but a data set is given by its name; did you mean 'toy'?"
    assert lines[0].endswith(f"': {wrong}")
    assert lines[1:] == [f"Data sets in {root.name}: toy (another folder: --data_path=FOLDER)"]


@pytest.mark.parametrize(
    "name, meant",
    [
        ("{elsewhere}/toy", "by its name; did you mean toy --data_path={elsewhere}?"),
        ("no/set", "by its name, and the folder of all data sets by --data_path=FOLDER."),
    ],
)
def test_a_path_into_another_folder_names_the_folder(toy, tmp_path, name, meant):
    elsewhere = toy["data_path"]

    first = message_about(name.format(elsewhere=elsewhere), root=str(tmp_path / "sets"))

    assert meant.format(elsewhere=elsewhere) in first.splitlines()[0]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("Pantry", "recbole-mm amazon Pantry --output=sets --download --pictures"),
        ("Toys", "recbole-mm amazon Toys --layout=2014 --output=sets --download --pictures"),
        ("Baby", "recbole-mm amazon Baby --layout=2014 --output=sets --download --pictures"),
        ("MovieLens100k", "recbole-mm prepare FOLDER/MovieLens100k --output=sets  ("),
    ],
)
def test_the_command_that_creates_it_is_for_the_folder_of_the_run(name, command):
    assert f"\n  {command}" in message_about(name, root="sets")


def test_of_a_mixture_the_lacking_domain_is_named():
    assert "'Food': dataset/Food/Food.inter does" in message_about("Mix", domains=["Food", "Home"])


def test_a_wrong_name_among_those_whose_users_are_left_out_is_told_by_its_key(toy):
    (Path(toy["data_path"]) / "Pantrees").mkdir()
    (Path(toy["data_path"]) / "Pantrees" / "Pantrees.inter").touch()

    lines = message_about("toy", root=toy["data_path"], exclude_users_of=["Pantris"]).splitlines()

    assert lines[0].startswith("exclude_users_of: data set 'Pantris': ")
    assert lines[0].endswith("Pantris.inter does not exist; did you mean 'Pantrees'?")
    assert len(lines) == 2 and f"Data sets in {toy['data_path']}: Pantrees, toy" in lines[1]


def test_data_sets_whose_users_are_left_out_may_be_split_or_mixtures(tmp_path):
    for name, file in (
        ("Split", "Split.train.inter"),
        ("Whole", "Whole.inter"),
        ("Own", "Own.inter"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / "Mix").mkdir()
    (tmp_path / "Mix" / "Mix.yaml").write_text("domains: [Whole, Absent]\n")
    config = {"dataset": "Own", "data_path": str(tmp_path / "Own"), "domains": None}
    config |= {"benchmark_filename": None, "exclude_users_of": ["Split", "Mix"]}

    lacking = lacking_datasets(config)

    assert [(each.name, each.key) for each in lacking] == [("Absent", "exclude_users_of")]


def test_the_files_of_a_given_split_are_those_that_are_looked_for():
    assert "x.a.inter does not exist" in message_about("x", benchmark_filename=["a", "b"])


@pytest.mark.parametrize("name", ["demo", "ml-100k", "amazon-books"])
def test_data_sets_that_are_made_by_themselves_need_not_exist(name):
    settings = {"domains": None, "exclude_users_of": None, "benchmark_filename": None}
    require_dataset({**settings, "dataset": name, "data_path": f"dataset/{name}"})
