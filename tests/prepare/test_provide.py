"""From the command to the trained result, against a server on this machine."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_amazon import ITEMS, mirrors_file, publish
from tiny import PRETRAIN, TINY, TINY_MMM4REC
from web_server import serving

from recbole_mm.cli import main
from recbole_mm.prepare import amazon, download, pictures


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda _: None)


@pytest.fixture
def server(tmp_path):
    with serving({}) as server:
        server.mirrors = mirrors_file(server, tmp_path / "mine.yaml")
        yield server


def train(server, *arguments, model="SASRec", dataset="Pantry", **settings):
    settings = {**(TINY_MMM4REC if model == "MMM4Rec" else TINY), "epochs": 1, **settings}
    options = [f"--{key}={value}" for key, value in settings.items()]
    names = [f"--{k}={v}" for k, v in (("model", model), ("dataset", dataset)) if v]
    return main([*names, *arguments, f"--mirrors={server.mirrors}", *options])


@pytest.mark.parametrize("layout", [2018, 2023])
def test_one_command_goes_from_nothing_to_the_trained_result(server, capsys, layout):
    publish(server, layout, "Prime_Pantry")
    reviews, meta = (name for name in server.files if "Pantry" in name)
    server.plan = {reviews: ["breaks off"], meta: ["breaks off", 503]}

    assert train(server, "--download", f"--layout={layout}", model="MMM4Rec") == 0

    ranges = dict.fromkeys(range_ for path, range_ in server.asked if range_)
    assert len(ranges) == 2 and all(range_ != "bytes=0-" for range_ in ranges)
    out, err = capsys.readouterr()
    assert out.startswith("MMM4Rec on Pantry\n")
    for number, step in enumerate(amazon.STEPS, 1):
        assert f"Pantry: step {number} of 5: {step}" in err
    assert "Pantry: without metadata: 1 of 6 items" in err
    assert "without a picture: 2 of 6 items (no address: 1, HTTP 404 Not Found: 1)" in err
    with np.load("dataset/Pantry/Pantry.image.npz") as features:
        assert features["item_id"].tolist() == ITEMS[:4]
    with np.load("dataset/Pantry/Pantry.text.npz") as features:
        assert features["item_id"].tolist() == ITEMS[:5]
    assert not list(Path("dataset").glob(".*"))


def test_a_category_by_its_own_name_and_short_names_of_the_papers_work(server):
    publish(server, 2018, "Video_Games")
    publish(server, 2014, "Toys_and_Games")

    assert train(server, "--download", dataset="Video_Games") == 0
    assert train(server, "--download", dataset="Toys") == 0

    cards = [
        json.loads(Path(f"dataset/{n}/{n}.card.json").read_text()) for n in ("Video_Games", "Toys")
    ]
    assert [card["layout"] for card in cards] == [2018, 2014]


def test_every_domain_that_a_file_of_stages_lacks_is_made_in_one_space(server):
    for category in ("Grocery_and_Gourmet_Food", "Kindle_Store", "Prime_Pantry"):
        publish(server, 2018, category)
    stages = [
        {**PRETRAIN, "dataset": "Both", "domains": ["Food", "Kindle"]},
        {"train_stage": "finetune", "dataset": "Pantry"},
    ]
    Path("stages.yaml").write_text(yaml.safe_dump({"model": "MMM4Rec", "stages": stages}))

    assert (
        train(server, "--download", "--config_files=stages.yaml", model="MMM4Rec", dataset=None)
        == 0
    )

    for name in ("Food", "Kindle", "Pantry"):
        card = json.loads(Path(f"dataset/{name}/{name}.card.json").read_text())
        assert card["features"]["image"]["shared_with"] == ["Food", "Kindle", "Pantry"]


def test_pictures_are_left_where_the_run_reads_none(server, capsys):
    publish(server, 2018, "Prime_Pantry")

    assert train(server, "--download", modalities="[text]") == 0

    assert not any("pictures" in path for path, _ in server.asked)
    assert sorted(path.name for path in Path("dataset/Pantry").iterdir()) == [
        "Pantry.card.json", "Pantry.inter", "Pantry.item", "Pantry.text.npz",
    ]  # fmt: skip
    assert "picture" not in capsys.readouterr().err.replace("pictures (not requested)", "")


def fails(capsys, status, server, *arguments, **settings):
    assert train(server, *arguments, **settings) == status
    return capsys.readouterr().err


def test_without_a_network_the_step_the_files_and_their_places_are_named(server, capsys):
    message = fails(capsys, 1, server, "--download")

    assert "Pantry: step 1 of 5 (reviews) failed: no mirror gave the file" in message
    for name in ("categoryFilesSmall/Prime_Pantry.csv", "metaFiles2/meta_Prime_Pantry.json.gz"):
        file = name.rpartition("/")[2]
        assert f"raw/2018/{file} from {server.url}/{name}" in message
    assert [str(path) for path in Path().rglob("*") if path.is_file()] == ["mine.yaml"]


def test_files_that_were_put_there_need_no_network(server):
    publish(server, 2018, "Prime_Pantry")
    Path("raw/2018").mkdir(parents=True)
    for name in [name for name in server.files if "Pantry" in name]:
        Path("raw/2018", name.rpartition("/")[2]).write_bytes(server.files.pop(name))
    images = Path("dataset/Pantry/images")
    images.mkdir(parents=True)
    for name in [name for name in server.files if "pictures" in name]:
        (images / name.rpartition("/")[2]).write_bytes(server.files.pop(name))

    assert train(server, "--download") == 0

    assert {path for path, _ in server.asked} <= {f"/pictures/{ITEMS[4]}.jpg"}


def test_without_a_network_the_pictures_may_be_put_there_or_left_out(server, capsys, monkeypatch):
    publish(server, 2018, "Prime_Pantry")
    meta = "metaFiles2/meta_Prime_Pantry.json.gz"
    text = gzip.decompress(server.files[meta]).decode().replace(server.host, "127.0.0.1:9")
    server.files[meta] = gzip.compress(text.encode())
    server.mirrors.write_text(server.mirrors.read_text() + "trusted_hosts: ['127.0.0.1']\n")
    monkeypatch.setattr(pictures, "UNREACHABLE", 3)

    message = fails(capsys, 1, server, "--download")

    assert "step 3 of 5 (pictures) failed: nothing answers: http://127.0.0.1:9/" in message
    assert "put the pictures into dataset/Pantry/images/ yourself, named <item_id>.jpg" in message
    assert train(server, "--download", modalities="[text]") == 0


def test_a_wrong_configuration_is_refused_before_anything_is_downloaded(server, capsys):
    assert "'epoch'" in fails(capsys, 2, server, "--download", epoch=3)
    assert "'SASRek'" in fails(capsys, 2, server, "--download", model="SASRek")
    assert "encoder 'nowhere'" in fails(capsys, 2, server, "--download", "--encoder=nowhere")
    assert server.asked == []


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("Pantri", "did you mean 'Pantry'?"),
        ("MovieLens100k", "recbole-mm prepare FOLDER/MovieLens100k"),
        ("Baby", "add --download --layout=2014 to the command"),
    ],
)
def test_what_is_not_to_be_had_is_told_before_anything_is_downloaded(
    server, capsys, dataset, message
):
    assert message in fails(capsys, 2, server, "--download", dataset=dataset)
    assert server.asked == []


def test_options_of_the_download_alone_are_refused(capsys):
    assert main(["--model=SASRec", "--dataset=Pantry", "--encoder=x"]) == 2
    assert "--encoder goes with --download" in capsys.readouterr().err


def test_a_data_set_that_exists_is_not_made_again_nor_taken_for_another(server, capsys):
    publish(server, 2018, "Prime_Pantry")
    train(server, "--download")
    server.asked.clear()

    assert train(server, "--download") == 0
    message = fails(capsys, 2, server, "--download", "--layout=2023")
    assert "recbole-mm amazon Pantry --layout=2023 --name=Pantry2023 --download" in message
    message = fails(capsys, 2, server, "--download", "--encoder=x")
    assert "features of embedded. Replace them with: recbole-mm extract Pantry" in message
    assert server.asked == []


def test_torchrun_is_told_the_command_that_makes_the_data(server, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")

    message = fails(capsys, 2, server, "--download")

    assert "before torchrun with:\n  recbole-mm amazon Pantry --download --pictures" in message


@pytest.mark.parametrize(("answer", "status"), [("yes\n", 0), ("n\n", 2), ("", 2)])
def test_at_a_terminal_the_user_is_asked(server, capsys, monkeypatch, answer, status):
    publish(server, 2018, "Prime_Pantry")
    monkeypatch.setenv("RECBOLE_MM_MIRRORS", str(server.mirrors))
    monkeypatch.setenv("WORLD_SIZE", "2")  # of a container; torchrun would set LOCAL_RANK too
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    options = [f"--{key}={value}" for key, value in {**TINY, "epochs": 1}.items()]
    assert main(["--model=SASRec", "--dataset=Pantry", *options]) == status
    assert "Pantry: not in dataset. Download" in capsys.readouterr().err
    assert bool(server.asked) == (status == 0)


def test_nobody_is_asked_where_nobody_can_answer(server, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: pytest.fail("asked"))

    assert main(["--model=SASRec", "--dataset=Pantry"]) == 2
    assert "[y/N]" not in capsys.readouterr().err
    assert server.asked == []


COMMANDS_WITH_DATA = {
    "compare": ["--models=SASRec,GRU4Rec", "--dataset=Pantry", "--seeds=x"],
    "tune": ["--model=SASRec", "--dataset=Pantry", "--space=none.hyper"],
    "transfer-report": ["--config_files=stages.yaml"],
}


@pytest.mark.parametrize("command", COMMANDS_WITH_DATA)
def test_other_commands_that_train_create_their_data_too(server, command):
    publish(server, 2018, "Prime_Pantry")
    Path("stages.yaml").write_text(
        yaml.safe_dump({"model": "MMM4Rec", "stages": [{"dataset": "Pantry"}]})
    )

    mirrors = f"--mirrors={server.mirrors}"
    assert (
        main([command, "--download", mirrors, *COMMANDS_WITH_DATA[command]]) == 2
    )  # seeds, space, no target

    assert Path("dataset/Pantry/Pantry.image.npz").is_file()


def test_a_target_that_does_not_exist_is_missed_by_its_stage_not_as_a_name_to_leave_out(
    tmp_path, capsys
):
    stages = tmp_path / "stages.yaml"
    stages.write_text(
        "model: MMM4Rec\nstages:\n"
        "  - {train_stage: pretrain, dataset: demo, exclude_users_of: targets}\n"
        "  - {train_stage: finetune, dataset: Nowhere}\n"
    )

    assert main([f"--config_files={stages}"]) == 2

    assert "error: data set 'Nowhere': " in capsys.readouterr().err
