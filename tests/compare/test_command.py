"""The whole command on the toy set; every run is a process of its own, forked."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from tiny import TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.compare.comparison import conditions
from recbole_mm.compare.dataset_description import describe_common_dataset
from recbole_mm.compare.entries import config_of, parse_entries
from recbole_mm.compare.runs import find_run, only_one_in
from recbole_mm.compare.settings import Settings, configurations

TINY = {**TINY_MMM4REC, "epochs": 1, "n_heads": 1, "topk": "[5,10]"}


def options(**values):
    return ["compare", *(f"--{key}={value}" for key, value in values.items())]


@pytest.fixture
def _small_leaks_count(monkeypatch):
    monkeypatch.setattr("recbole_mm.compare.protocols.LEAST_LEAK", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
@pytest.mark.usefixtures("_small_leaks_count")
def test_a_comparison_runs_resumes_and_survives_a_failing_run(toy, tmp_path, capsys):
    models = "MMM4Rec,SASRec+learning_rate=1e30,SASRec"  # whose loss is soon not a number
    command = options(models=models, **toy, **TINY, seeds=1, jobs=2, out="out")

    assert main(command) == 1
    first = capsys.readouterr().out
    assert "3 runs, 0 of them already finished; 2 at a time" in first
    assert "SASRec+learning_rate=1e30, seed 1: FAILED: " in first
    assert "lower learning_rate (1e+30)" in first
    assert "warning: Leave-one-out leaks the future" in first
    assert "ranked among all 12 items" in first
    (folder,) = (tmp_path / "out" / "runs").glob("MMM4Rec-seed1-*")
    ranks = pl.read_parquet(folder / "ranks.parquet")
    assert set(ranks["features"]) == {"all", "text only", "image only", "shuffled"}
    assert len(ranks) == 4 * 2 * 40
    assert set(ranks["seen"]) == {"candidates", "masked"}
    assert json.loads((folder / "result.json").read_text())["epochs"] == 1

    assert main(command) == 1
    assert "3 runs, 2 of them already finished" in capsys.readouterr().out

    page = (tmp_path / "out" / "report.html").read_text()
    for word in (
        "12 items",
        "Data leak.",
        "Runs without a result:",
        "text only",
        "One seed",
        "Curves that still rise.",
        "The same runs, items of the history masked at test",
        "recbole-mm compare --models=",
    ):
        assert word in page
    assert page.count("<svg") == 5  # curves, three kinds of slices, knock-outs
    assert "http://" not in page.replace("http://www.w3.org", "")  # nothing is loaded
    assert "https://" not in page
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| MMM4Rec | 1 |" in text
    assert set(pl.read_parquet(tmp_path / "out" / "ranks.parquet")["label"]) == {
        "MMM4Rec",
        "SASRec",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_baselines_that_train_nothing_are_compared_on_the_same_targets(toy, tmp_path, capsys):
    models = "SASRec,ItemKNN+k=3,Pop"

    assert main(options(models=models, **toy, **TINY, seeds=1, jobs=1, out="out")) == 0

    assert "Popularity" in capsys.readouterr().out
    ranks = pl.read_parquet(tmp_path / "out" / "ranks.parquet").filter(pl.col("features") == "all")
    assert set(ranks["label"]) == {"SASRec", "HistoryKNN+k=3", "Popularity"}
    targets = [
        part.select("user", "item").sort("user", "item") for part in ranks.partition_by("label")
    ]
    assert targets[0].equals(targets[1]) and targets[0].equals(targets[2])

    for others, expected in (("SASRec,Pop", ["HistoryKNN+k=3"]), (models, [])):
        assert main(options(models=others, **toy, **TINY, seeds=1, jobs=1, out="out")) == 0
        printed = capsys.readouterr().out
        assert re.findall("is replaced and no longer includes (.*): the runs", printed) == expected


def test_an_unknown_model_ends_the_command_before_anything_runs(toy, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())

    assert main(options(models="MMM4Rec,SASRek", **toy)) == 2

    assert "unknown model 'SASRek': did you mean 'SASRec'?" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"metric": "AUC@10"}, "metric 'AUC@10': write NAME@K"),
        ({"baseline": "GRU4Rec"}, "--baseline=GRU4Rec: must be one of SASRec"),
        ({"protocol": "random"}, "--protocol=random: must be one of leave_one_out"),
        ({"seeds": 0}, "--seeds=0: give a number >= 1"),
        ({"mask_seen": "maybe"}, "--mask_seen=maybe: give True or False"),
        ({"epoch": 1}, "did you mean 'epochs'"),
        ({"jobs": 0}, "--jobs=0: give a number >= 1"),
        ({"seed": 7}, "--seed: give --seeds instead"),
        ({"config_files": "a.yaml"}, "--config_files: give MODEL@FILE.yaml in --models instead"),
        ({"model": "MMM4Rec"}, "--model: give --models instead"),
        ({"models": "SASRec+valid_metric=MRR@5"}, "sets valid_metric, which must be the same"),
        ({"held_out_items": 0.2}, "--held_out_items needs --protocol=cold_start"),
        ({"models": "SASRec+seed=7"}, "SASRec+seed=7 sets seed, which must be the same for all"),
        ({"models": "DIEN"}, "DIEN has its own data set class (DIENDataset)"),
        ({"dataset": "Toyz"}, "data set 'Toyz'"),
        ({"models": "SASRec+config_files=a.yaml"}, "sets config_files: write MODEL@FILE.yaml"),
        ({"models": "SASRec,SASRec+use_item_id=False"}, "use_item_id, which SASRec does not read"),
        ({"models": "SASRec+model=GRU4Rec"}, "sets model: write MODEL@FILE.yaml"),
        ({"benchmark_filename": "[a,b,c]"}, "compare splits the events by --protocol"),
        (
            {"models": "SASRec,SASRec+hidden_size=64"},
            "SASRec and SASRec+hidden_size=64 have the same configuration",
        ),
        (
            {"val_interval": "{timestamp: '[0,1400090000]'}"},
            "the split leaves no test targets of 80",
        ),
    ],
)
def test_wrong_options_end_the_command_before_anything_runs(toy, tmp_path, capsys, wrong, message):
    assert main(options(**{"models": "SASRec", **toy, **wrong})) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "compare").exists()


def test_entries_that_read_other_events_are_refused_before_anything_runs(toy, tmp_path, capsys):
    path = tmp_path / "dataset/toy/toy.inter"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(rows)]) + "\n")  # the file's order is another one

    models = "GRU4Rec,SASRec+load_col={inter: [user_id,item_id]},SASRec"
    assert main(options(models=models, **toy)) == 2

    assert "is tested on other targets than GRU4Rec" in capsys.readouterr().err
    assert not (tmp_path / "compare").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_a_baseline_that_fails_is_no_reason_to_run_the_others_again(toy, capsys):
    command = options(
        models="SASRec,SASRec+learning_rate=1e30", **toy, **TINY, seeds=1, jobs=2, out="out"
    )

    assert main(command) == 2
    assert "SASRec+learning_rate=1e30 has finished: give another --baseline, one of SASRec (" in (
        capsys.readouterr().err
    )
    assert main([*command, "--baseline=SASRec"]) == 1
    assert "| SASRec | 1 |" in Path("out/report.md").read_text()


def test_a_run_is_found_whatever_its_entry_is_called(toy, tmp_path):
    def run(text):
        entry = parse_entries(text)[0]
        return find_run(entry, config_of(entry, None, {}, toy), tmp_path)

    long = "+".join(f"{key}=0.25" for key in ("hidden_dropout_prob", "attn_dropout_prob") * 8)
    first = run("SASRec+hidden_size=32")
    first.folder.mkdir(parents=True)

    assert run("SASRec+n_layers=2+hidden_size=32").folder == first.folder
    assert run("SASRec").folder != first.folder
    assert len(run(f"SASRec+{long}").folder.name) < 130


def test_the_conditions_name_the_entries_that_know_the_time_of_the_target(toy):
    settings = Settings(
        parse_entries("MMM4Rec+use_time=True+query_time=request,SASRec"),
        [],
        [],
        *(None, [1], "SASRec", "leave_one_out", False, "NDCG@10", [10], dict(toy), Path("out")),
    )
    configs = configurations(settings)

    text = conditions(settings, describe_common_dataset(configs), configs)

    label = settings.entries[0].label
    assert text.endswith(f"The time of the target is known only to {label}.")


def test_a_folder_that_cannot_be_made_is_wrong_input(toy, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")

    assert main(options(models="SASRec", **toy, out="taken")) == 2

    assert "taken': File exists. Give another --out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_a_report_is_made_while_the_runs_go_on(toy, capsys):
    shared = dict(toy, **TINY, seeds=2, jobs=1, out="out")
    assert main(options(models="SASRec", **dict(shared, seeds=1))) == 0
    capsys.readouterr()

    with only_one_in(Path("out")):  # as the command that runs does
        assert (
            main([*options(models="SASRec,GRU4Rec", baseline="SASRec", **shared), "--report_only"])
            == 1
        )

    output = capsys.readouterr().out
    missing = [line for line in output.splitlines() if line.startswith("NO RESULT")]
    assert missing == [
        f"NO RESULT: {label}, seed {seed}: not finished"
        for label, seed in (("GRU4Rec", 1), ("SASRec", 2), ("GRU4Rec", 2))
    ]
    assert "| SASRec | 1 |" in Path("out/report.md").read_text()
    assert len(list(Path("out/runs").iterdir())) == 1


@pytest.mark.usefixtures("_small_leaks_count")
@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("temporal", "Global temporal split: the earliest 80% of events are for training"),
        ("cold_start", "held out of training"),
    ],
)
def test_the_conditions_name_protocol_and_masking(toy, capsys, protocol, sentence):
    command = options(models="SASRec", **toy, **TINY, seeds=1, protocol=protocol, mask_seen=True)

    assert main(command) == 0

    output = capsys.readouterr().out
    assert sentence in output
    assert "items in the user's history are not candidates at test" in output
    assert ("warning: Leave-one-out leaks" in output) == (protocol == "cold_start")


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_masked_and_unmasked_numbers_come_from_one_run(toy, tmp_path, capsys):
    data = Path(toy["data_path"], "toy", "toy.inter")
    lines = data.read_text().splitlines()
    data.write_text("\n".join([*lines, *(line for line in lines if line.startswith("u1"))]) + "\n")
    command = options(models="SASRec", **toy, **TINY, seeds=1, out="out")

    assert main(command) == 0
    first = capsys.readouterr().out
    assert main([*command, "--mask_seen=True"]) == 0
    second = capsys.readouterr().out

    assert "1 runs, 1 of them already finished" in second
    ranks = pl.read_parquet(next((tmp_path / "out" / "runs").glob("*/ranks.parquet")))
    by_target = ranks.pivot(on="seen", index=["user", "item"], values="rank")
    assert (by_target["masked"] <= by_target["candidates"]).all()
    assert (by_target["masked"] < by_target["candidates"]).any()
    assert first.count("SASRec") and "are not candidates at test" in second


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_the_conditions_count_targets_that_depend_on_the_order_of_ties(toy, capsys):
    data = Path(toy["data_path"], "toy", "toy.inter")
    header, *rows = data.read_text().splitlines()
    day = 86_400 * 6 + 1_400_000_000
    rows = [
        row.replace(str(day), str(day - 86_400)) if row.startswith("u3\t") else row for row in rows
    ]
    data.write_text("\n".join([header, *rows]) + "\n")

    assert main(options(models="SASRec", **toy, **TINY, seeds=1, tie_order="item")) == 0

    output = capsys.readouterr().out
    assert "in the order of the items' tokens (tie_order: item)" in output
    assert "1 test target depends on that order (2.5% of them)" in output
