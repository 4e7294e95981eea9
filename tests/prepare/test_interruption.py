"""A run that is killed after any write, and run again, gives the bytes of one that was not."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_amazon import mirrors_file, publish
from web_server import serving

from recbole_mm.cli import main
from recbole_mm.prepare.catalog import LackingData, require_dataset
from recbole_mm.prepare.commands.amazon import main as make_amazon

COMMAND = ["amazon", "Pantry", "--download", "--pictures", "--mirrors=mine.yaml"]
KILLED_AFTER_A_WRITE = """
import os, signal, sys
from recbole_mm.cli import main
replace = os.replace
def replace_and_die(source, target):
    replace(source, target)
    if os.path.basename(target) == sys.argv[1]:
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_and_die
main(sys.argv[2:])
"""
WRITES = (
    "Prime_Pantry.csv.part.json", "meta_Prime_Pantry.json.gz.part.json", "report.json",
    "Pantry.item", "Pantry.inter", "Pantry.card.json", "Pantry.text.npz", "000000000.npz",
    "Pantry.image.npz",
)  # fmt: skip


@pytest.fixture(scope="module")
def server():
    with serving({}) as server:
        publish(server, 2018, "Prime_Pantry")
        yield server


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.slow
def test_killed_after_each_write_and_run_again_it_gives_the_same_bytes(
    server, tmp_path, monkeypatch
):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    monkeypatch.chdir(undisturbed)
    mirrors_file(server, Path("mine.yaml"))
    assert main(COMMAND) == 0
    expected = bytes_of(undisturbed / "dataset")

    disturbed = tmp_path / "disturbed"
    disturbed.mkdir()
    monkeypatch.chdir(disturbed)
    mirrors_file(server, Path("mine.yaml"))
    for write in WRITES:
        process = [sys.executable, "-c", KILLED_AFTER_A_WRITE, write, *COMMAND]
        assert subprocess.run(process, check=False).returncode == -signal.SIGKILL
    assert main(COMMAND) == 0

    assert bytes_of(disturbed / "dataset") == expected
    assert not list(Path("dataset").glob(".*"))


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
    config = {"dataset": "Pantry", "data_path": "dataset/Pantry", "domains": None}

    with pytest.raises(LackingData, match="its creation was interrupted. Resume it") as error:
        require_dataset(config | {"benchmark_filename": None})

    assert "recbole-mm amazon Pantry --download --pictures --mirrors=mine.yaml" in str(error.value)
    server.asked.clear()
    assert main(COMMAND) == 0
    assert server.asked == []
    assert "the tables of an interrupted run are taken" in capsys.readouterr().err
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
