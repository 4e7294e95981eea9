"""A run that is killed anywhere, and run again, gives the bytes of one that was not."""

from pathlib import Path

import pytest
from fork_server import ADDRESS
from kills import Case, Undisturbed, points_of
from small_amazon import mirrors_file, publish
from web_server import serving
from zygote import Zygote

from recbole_mm.cli import main
from recbole_mm.prepare.catalog import LackingData, require_dataset
from recbole_mm.prepare.commands.amazon import main as make_amazon

COMMAND = ["amazon", "Pantry", "--download", "--pictures", "--mirrors=mine.yaml"]
KILLS = 8


@pytest.fixture(scope="module")
def server():
    with serving({}) as server:
        publish(server, 2018, "Prime_Pantry")
        yield server


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_killed_anywhere_and_run_again_it_gives_the_same_bytes(
    server, tmp_path, fork_server, monkeypatch
):
    def make(_, folder):
        mirrors_file(server, folder / "mine.yaml")

    monkeypatch.setenv(ADDRESS, fork_server.address)
    with Zygote() as zygote:
        amazon = Undisturbed(Case("amazon", make, COMMAND), zygote, None, tmp_path / "amazon")
        for points in points_of(amazon, KILLS, seed=1):
            amazon.kill(points)


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it."""


def killed_in(monkeypatch, where: str) -> None:
    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(f"recbole_mm.prepare.amazon.{where}", kill)
        with pytest.raises(Killed):
            make_amazon(COMMAND[1:])


def test_a_data_set_without_its_features_is_not_taken_for_complete(server, monkeypatch, capsys):
    mirrors_file(server, Path("mine.yaml"))
    killed_in(monkeypatch, "extract")
    config = {
        "dataset": "Pantry",
        "data_path": "dataset/Pantry",
        "domains": None,
        "exclude_users_of": None,
    }

    with pytest.raises(LackingData, match="its creation was interrupted. Resume it") as error:
        require_dataset(config | {"benchmark_filename": None})

    assert "recbole-mm amazon Pantry --download --pictures --mirrors=mine.yaml" in str(error.value)
    server.asked.clear()
    assert main(COMMAND) == 0
    assert server.asked == []
    assert "reusing the tables of an interrupted run" in capsys.readouterr().err
    require_dataset(config | {"benchmark_filename": None})


def test_another_recipe_does_not_resume_but_starts_from_scratch(server, monkeypatch, capsys):
    mirrors_file(server, Path("mine.yaml"))
    killed_in(monkeypatch, "extract")

    assert main([*COMMAND, "--core=2"]) == 0
    assert "interrupted run" not in capsys.readouterr().err


@pytest.mark.parametrize("step", ["fetch", "read_items", "add_pictures"])
def test_what_fails_before_the_tables_leaves_an_older_data_set_as_it_is(server, monkeypatch, step):
    mirrors_file(server, Path("mine.yaml"))
    make_amazon(COMMAND[1:])
    before = bytes_of(Path("dataset"))
    Path("raw/2018/Prime_Pantry.csv").unlink()

    killed_in(monkeypatch, step)

    assert bytes_of(Path("dataset")) == before


def test_one_process_at_a_time_makes_a_data_set(server, monkeypatch, capsys):
    mirrors_file(server, Path("mine.yaml"))

    def second(*_):
        assert main(COMMAND) == 2
        raise Killed

    monkeypatch.setattr("recbole_mm.prepare.amazon.read_items", second)
    with pytest.raises(Killed):
        make_amazon(COMMAND[1:])

    assert "another process is making this data set" in capsys.readouterr().err
