import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny import TINY, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.data.feature_files import write_item_features
from recbole_mm.prepare.catalog import EXPLANATION, datasets_in, described_datasets
from recbole_mm.run.run import Run, knows_query_time, run

SCRIPT = "run_recbole_mm.py"
TINY_OF_RECBOLE = {
    "SASRec": TINY,
    "GRU4Rec": {k: v for k, v in TINY.items() if k != "inner_size"} | {"embedding_size": 8},
    "BERT4Rec": TINY,
}


def options(**values):
    return [f"--{key}={value}" for key, value in values.items()]


def fails(capsys, status, *arguments):
    """Run a command that cannot work; its last words."""
    assert main(list(arguments)) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("recbole-mm: error: ")
    assert "Traceback" not in captured.err
    return captured.err


def test_help_names_every_model_every_data_set_and_how_it_is_made(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])

    text = capsys.readouterr().out
    assert end.value.code == 0
    for name in (*MODELS, "SASRec", *described_datasets(), *described_datasets().values()):
        assert name in text
    assert "--model=MMM4Rec --dataset=demo" in text
    assert "exit status" in text


def test_no_arguments_are_a_call_for_help(capsys):
    with pytest.raises(SystemExit) as end:
        main([])

    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("usage: recbole-mm --model=MODEL")


@pytest.mark.parametrize("model", TINY_OF_RECBOLE)
def test_a_model_of_recbole_runs_on_the_same_data(toy, model):
    result = run(model, config_dict={**toy, **TINY_OF_RECBOLE[model]})

    assert 0 <= result.test_result["ndcg@10"] <= 1
    assert result.epochs == 2
    assert result.best_epoch in (0, 1)
    assert result.n_parameters > 0


@pytest.mark.parametrize("model", ["FDSA", "SASRecF"])
def test_a_model_of_recbole_that_reads_item_columns_runs_or_names_the_one_it_lacks(
    capsys, toy, tmp_path, model
):
    lacking = fails(capsys, 2, *options(model=model, **toy))
    assert "the column 'class' of the items (selected_features)" in lacking

    items = [f"i{i}\tround number{i}" for i in range(12)]
    path = tmp_path / "dataset" / "toy" / "toy.item"
    path.write_text("\n".join(["item_id:token\ttitle:token_seq", *items]) + "\n")
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "title"]}
    more = {"load_col": columns, "selected_features": ["title"], "hidden_size": 8, "epochs": 1}
    assert main(options(model=model, **toy, **more)) == 0


def test_what_the_command_prints(toy, tmp_path, repository, python):
    """In a process of its own: under pytest the console is pytest's."""
    command = [*python, repository / SCRIPT, *options(model="MMM4Rec", **toy)]
    done = subprocess.run(
        command + options(**TINY_MMM4REC), capture_output=True, text=True, check=True
    )

    table = done.stdout
    assert table.startswith("MMM4Rec on toy\n")
    assert "MMM4Rec on toy" not in done.stderr
    for word in (
        "valid     test",
        "ndcg@10",
        "epochs       2 (best: ",
        "in the log",
        "seconds",
        "parameters",
    ):
        assert word in table
    assert "peak memory" in table
    path = table.rpartition("checkpoint   ")[2].strip()
    assert (tmp_path / path).is_file()
    assert "Warning" not in done.stderr
    (log,) = (tmp_path / "log" / "MMM4Rec").glob("*.log")
    assert table in log.read_text()


def test_progress_bars_are_shown_unless_switched_off(toy, repository, python):
    command = [*python, repository / SCRIPT, *options(model="MMM4Rec", **toy)]
    tiny = {**TINY_MMM4REC, "epochs": 1}
    for show in (True, False):
        done = subprocess.run(
            command + options(**{**tiny, "show_progress": show}),
            capture_output=True,
            text=True,
            check=True,
        )
        assert ("Train     0" in done.stderr) == show


def test_the_result_of_a_run_says_what_it_was_and_what_it_cost(toy, tmp_path):
    result = run("MMM4Rec", config_dict={**toy, **TINY_MMM4REC})

    assert (result.model, result.dataset) == ("MMM4Rec", "toy")
    assert result.best_valid_result["ndcg@10"] == result.best_valid_score
    assert result.valid_score_bigger is True
    assert result.seconds >= result.epochs * result.seconds_per_epoch > 0
    assert result.peak_memory > 50 * 2**20
    assert (tmp_path / result.checkpoint).is_file()


@pytest.mark.parametrize("split, missing", [("test_only", "valid"), ("valid_only", "test")])
def test_a_split_may_lack_validation_or_test(toy, capsys, split, missing):
    stages = [{"use_item_id": False}, {"pre_model_path": None}]
    config = {**toy, **TINY_MMM4REC, "model": "MMM4Rec", "stages": stages}
    config["eval_args"] = {
        "split": {"LS": split},
        "order": "TO",
        "group_by": "user",
        "mode": "full",
    }
    Path("stages.yaml").write_text(yaml.safe_dump(config))

    assert main(["--config_files=stages.yaml"]) == 0

    *_, last = capsys.readouterr().out.splitlines()
    scores = dict(zip(("valid", "test"), last.split("scratch")[1].split()[:2], strict=True))
    assert [name for name, score in scores.items() if score == "-"] == [missing]


def test_only_a_model_that_reads_times_is_said_to_know_the_targets_time(toy):
    known = {
        model: knows_query_time(
            load_config(model, None, (), {**toy, "released": True, "use_time": True})
        )
        for model in ("MMM4Rec", "MISSRec")
    }
    assert known == {"MMM4Rec": True, "MISSRec": False}


def test_the_same_seed_gives_the_same_result(toy):
    first, again, other = (
        run("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, "seed": seed}).best_valid_score
        for seed in (1, 1, 2)
    )

    assert first == again
    assert first != other


def test_an_unknown_data_set_lists_the_known_ones_and_where_each_is_described(capsys, toy):
    message = fails(capsys, 2, *options(model="SASRec", dataset="Toyz", data_path=toy["data_path"]))

    assert "data set 'Toyz':" in message and "did you mean 'toy'?" in message
    assert (
        f"Known data sets: {', '.join(described_datasets())}\nrecbole-mm --help says how" in message
    )
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    for name, how in described_datasets().items():
        assert name in listed and how.partition(EXPLANATION)[0] in listed
    assert ": toy (another folder: --data_path=FOLDER)" in message


def test_a_known_data_set_that_is_not_there_says_how_it_is_made(capsys):
    message = fails(capsys, 2, "--model=SASRec", "--dataset=Toys")

    assert "dataset/Toys/Toys.inter does not exist. Create it with:" in message
    assert f"  {described_datasets()['Toys']}" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model=SASRec"], "no dataset is named"),
        (["--stages=[{}]"], "list the stages in a yaml file and give --config_files=FILE"),
        (["--model=SASRek", "--dataset=demo"], "did you mean 'SASRec'"),
        (["--model=SASRec", "--dataset=demo", "--epoch=1"], "did you mean 'epochs'"),
        (["--model=SASRec", "--dataset=demo", "epochs=1"], "is not an option"),
        (["comapre", "--dataset=demo"], "unknown command 'comapre': did you mean 'compare'?"),
        (
            ["--model=SASRec", "--dataset=demo", "--config_files=no.yaml"],
            "'no.yaml' does not exist",
        ),
    ],
)
def test_a_wrong_command_ends_with_status_2_before_any_work(capsys, tmp_path, arguments, message):
    assert message in fails(capsys, 2, *arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["transfer-report", "--config_files=transfer/MMM4Rec_demo.yaml", "--size=0.5,1"],
            "error: command line: unknown key 'size'; did you mean --sizes?",
        ),
        (
            ["transfer-report", "--config_files=transfer/MMM4Rec_demo.yaml", "--new-item=0.5"],
            "--new_items",
        ),
        (["compare", "--models=SASRec", "--dataset=toy", "--baselines=SASRec"], "--baseline"),
        (["tune", "--model=SASRec", "--dataset=toy", "--budgets=3"], "--budget"),
        (
            ["tune", "--model=SASRec", "--dataset=toy", "--epoch=3"],
            "error: command line: unknown key 'epoch'; did you mean 'epochs'",
        ),
        (
            ["compare", "--models=SASRec", "--dataset=toy", "--epoch=3"],
            "error: command line: unknown key 'epoch'; did you mean 'epochs'",
        ),
        (
            ["compare", "--models=SASRec,Mine=MMM4Rec+use_itemid=False", "--dataset=toy"],
            "error: --models: entry Mine: unknown key 'use_itemid'; did you mean 'use_item_id'",
        ),
    ],
)
def test_an_option_that_is_misspelled_is_told_from_a_key(capsys, toy, arguments, message):
    assert message in fails(capsys, 2, *arguments, f"--data_path={toy['data_path']}")


def test_options_are_not_meant_by_a_key_in_a_file(capsys, toy, tmp_path):
    (tmp_path / "mine.yaml").write_text("budgets: 3\n")
    arguments = ["--model=SASRec", "--dataset=toy", f"--data_path={toy['data_path']}"]

    message = fails(capsys, 2, "tune", *arguments, f"--config_files={tmp_path / 'mine.yaml'}")

    assert "mine.yaml: unknown key 'budgets'" in message and "--budget" not in message


def test_features_that_cannot_be_used_end_with_status_2(capsys, toy, tmp_path):
    (tmp_path / "dataset/toy/toy.text.npz").write_bytes(b"no archive")

    message = fails(capsys, 2, *options(model="MMM4Rec", **toy, **TINY_MMM4REC))

    assert "toy.text.npz" in message


@pytest.mark.parametrize("folder", ["saved", "log", "log_tensorboard"])
def test_a_folder_that_cannot_be_written_is_refused_with_a_fix_that_works(
    capsys, toy, tmp_path, folder, monkeypatch
):
    (tmp_path / folder).write_text("a file where a folder should be")
    given = {"model": "Pop", **toy, "checkpoint_dir": tmp_path / "saved"}

    message = fails(capsys, 2, *options(**given))

    assert f"cannot write to the folder '{tmp_path / folder}'" in message
    if folder == "saved":
        assert "Give another folder with --checkpoint_dir=FOLDER" in message
        given["checkpoint_dir"] = tmp_path / "elsewhere"
    else:
        assert f"Start in another folder: {folder}/ is always written" in message
        assert "checkpoint_dir" not in message
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(options(**given)) == 0


def test_a_loss_that_is_not_a_number_ends_with_status_1(capsys, toy, tmp_path):
    path = tmp_path / "dataset/toy/toy.text.npz"
    write_item_features(path, ["i0", "i1"], np.full((2, 4), 1e14, np.float32))
    options = {"model": "MMM4Rec", **toy, **TINY_MMM4REC, "learning_rate": 1e30}

    message = fails(capsys, 1, *(f"--{key}={value}" for key, value in options.items()))

    assert "the loss of MMM4Rec is not a number in epoch 0: lower learning_rate" in message


def test_two_runs_of_one_second_have_checkpoints_of_their_own(toy):
    config = load_config("SASRec", None, (), toy)
    first, second = (Run(config).trainer.saved_model_file for _ in range(2))
    assert first != second


def test_options_that_are_those_of_other_models_are_told(toy, caplog):
    command = options(
        model="GRU4Rec", **toy, **TINY_OF_RECBOLE["GRU4Rec"], n_heads=2, softmax="full"
    )

    assert main(command) == 0

    assert "GRU4Rec does not read n_heads, softmax: no effect" in caplog.text


def test_data_that_leave_nothing_to_test_by_are_told(toy, tmp_path, caplog):
    path = tmp_path / "dataset/toy/toy.inter"
    header, *rows = path.read_text().splitlines()
    two = [row for number, row in enumerate(rows) if number % 7 < 2]  # of the seven of a user
    path.write_text("\n".join([header, *two]) + "\n")

    Run(load_config("SASRec", None, (), toy))
    assert "no validation or test targets: leave-one-out needs a user with three" in caplog.text

    caplog.clear()
    Run(load_config("SASRec", None, (), {**toy, "eval_args": {"split": {"RS": [1, 0, 0]}}}))
    assert "has no validation or test targets\n" in caplog.text


def test_debug_shows_where_an_error_arose(capsys):
    assert main(["--model=SASRec", "--dataset=Toys", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_config_files_may_be_several_and_have_blanks_in_their_names(toy, tmp_path):
    for name, text in (("a b.yaml", "epochs: 1\nmodel: SASRec\n"), ("b.yaml", "topk: [3]\n")):
        (tmp_path / name).write_text(text)
    tiny = {k: v for k, v in TINY.items() if k != "epochs"}

    files = ["--config_files=a b.yaml", "--config_files=b.yaml"]
    status = main([*files, *options(**toy, **tiny, valid_metric="NDCG@3")])

    assert status == 0
    assert len(list((tmp_path / "saved").glob("SASRec-*.pth"))) == 1


def test_data_sets_in_a_folder_have_interactions(toy, tmp_path):
    (tmp_path / "dataset" / "empty").mkdir()

    assert datasets_in(toy["data_path"]) == ["toy"]
    assert datasets_in(tmp_path / "nowhere") == []


def test_the_script_of_the_repository_stays_small_and_helps(repository):
    script = repository / SCRIPT

    assert len(script.read_text().splitlines()) <= 30
    done = subprocess.run(
        [sys.executable, script, "--help"], capture_output=True, text=True, check=True
    )
    assert "MMM4Rec" in done.stdout
