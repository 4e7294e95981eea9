import shlex

import pytest

from recbole_mm.prepare.catalog import described_datasets
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
