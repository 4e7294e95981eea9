"""Entries whose scores are added."""

import json
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
import torch
from tiny import TINY

from recbole_mm.cli import main
from recbole_mm.compare.comparison import members_of
from recbole_mm.compare.entries import parse_ensembles, parse_entries
from recbole_mm.compare.runs import EntryRun
from recbole_mm.config.errors import ConfigError
from recbole_mm.reporting.added_scores import mean_log_probability

inf = float("inf")


def test_what_is_added_to_all_scores_of_a_member_is_without_effect():
    a, b = torch.tensor([[0.0, 1.0, 5.0]]), torch.tensor([[3.0, 1.0, 2.0]])

    mean = mean_log_probability([a, b])

    expected = (a.log_softmax(1) + b.log_softmax(1)) / 2
    torch.testing.assert_close(mean, expected)
    torch.testing.assert_close(mean_log_probability([a + 100, b]), expected)


def test_what_a_member_never_recommends_is_last_in_its_list_and_not_out_of_the_ensemble():
    a = torch.tensor([[-inf, 0.0, 1.0, -inf]])
    b = torch.tensor([[-inf, 2.5, 1.0, 3.0]])

    (mean,) = mean_log_probability([a, b]).tolist()

    third = (a[0, 1:3].log_softmax(0)[0] + b[0, 1:].log_softmax(0)[2]) / 2
    assert mean[3] == pytest.approx(third.item())
    assert mean[0] == -inf  # no member recommends it
    assert mean[2] < mean[1]


def test_an_ensemble_is_written_with_its_members():
    text = "SASRecPlus+modalities=[text,image],SASRec@tuned,SASRec@tuned | SASRecPlus+modalities=[text, image]"

    assert [entry.model for entry in parse_entries(text)] == ["SASRecPlus", "SASRec"]
    (ensemble,) = parse_ensembles(text)
    assert ensemble.members == ("SASRec", "SASRecPlus+modalities=[text,image]")
    assert ensemble.label == "SASRec|SASRecPlus+modalities=[text,image]"


def test_entries_and_ensembles_have_the_names_that_the_user_gives():
    text = "ID=SASRecPlus+n_heads=1, All=MMM4Rec@tuned, ID|All, Both=All|ID"

    first, second = parse_entries(text)
    assert (first.label, first.model, first.settings) == ("ID", "SASRecPlus", {"n_heads": 1})
    assert (second.label, second.model) == ("All", "MMM4Rec")
    assert second.files[0].endswith("tuned/MMM4Rec.yaml")
    assert [tuple(e) for e in parse_ensembles(text)] == [
        ("ID|All", ("ID", "All"), False),
        ("Both", ("All", "ID"), False),
    ]


def test_an_ensemble_of_seeds_is_written_as_one_with_them():
    text = "SASRec,All=GRU4Rec,SASRec|seeds,Five=All|seeds,SASRec|All|seeds"

    assert [tuple(e) for e in parse_ensembles(text)] == [
        ("SASRec|seeds", ("SASRec",), True),
        ("Five", ("All",), True),
        ("SASRec|All|seeds", ("SASRec", "All"), True),
    ]
    (of_entries,) = parse_ensembles("seeds=GRU4Rec,SASRec,SASRec|seeds")
    assert of_entries.members == ("SASRec", "seeds")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SASRec,SASRec|GRU4Rec", "GRU4Rec, which is not an entry: list every member"),
        ("SASRec,Popularity,SASRec|Popularity", "scores of Popularity, which are counts or sums"),
        ("SASRec,SASRec|", "adds the scores of nothing"),
        ("SASRec,SASRec|SASRec", "the members of an ensemble must differ"),
        ("SASRec,GRU4Rec,SASRec|GRU4Rec,SASRec|GRU4Rec", "duplicate entries: SASRec"),
    ],
)
def test_an_ensemble_of_other_things_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_ensembles(text)


def test_runs_of_all_seeds_are_the_members_of_one_run():
    ensembles = parse_ensembles("SASRec,GRU4Rec,SASRec|GRU4Rec,SASRec|seeds")
    runs = [EntryRun(name, seed, Path(name)) for seed in (3, 4) for name in ("SASRec", "GRU4Rec")]
    settings = SimpleNamespace(seeds=[3, 4], ensembles=ensembles)

    found = [
        (ensemble.label, [(run.label, run.seed) for run in members])
        for ensemble, members in members_of(settings, runs)
    ]

    assert found == [
        ("SASRec|GRU4Rec", [("SASRec", 3), ("GRU4Rec", 3)]),
        ("SASRec|seeds", [("SASRec", 3), ("SASRec", 4)]),
        ("SASRec|GRU4Rec", [("SASRec", 4), ("GRU4Rec", 4)]),
    ]


def test_one_seed_is_no_ensemble_of_seeds(toy, capsys):
    command = ["compare", "--models=SASRec,SASRec|seeds", f"--dataset={toy['dataset']}"]

    assert main([*command, f"--data_path={toy['data_path']}", "--seeds=1", "--out=out"]) == 2
    assert "SASRec|seeds adds the scores of several seeds" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("forked_children")
def test_an_ensemble_is_tested_after_its_members_and_reported_with_them(toy, tmp_path, capsys):
    models = "SASRec+n_heads=1,SASRecPlus+n_heads=1,SASRec+n_heads=1|SASRecPlus+n_heads=1"
    shared = {**toy, **TINY, "topk": "[5,10]", "seeds": 1, "jobs": 2, "out": "out"}
    command = ["compare", f"--models={models}", *(f"--{k}={v}" for k, v in shared.items())]

    assert main(command) == 0

    out = capsys.readouterr().out
    assert "minus SASRecPlus+n_heads=1" in out  # the last model, not the ensemble
    (folder,) = (tmp_path / "out/runs").glob("SASRec_n_heads_1_SASRecPlus_*")
    record = json.loads((folder / "result.json").read_text())
    members = [json.loads(p.read_text()) for p in (tmp_path / "out/runs").glob("*/result.json")]
    alone = [m for m in members if m["history"]]
    assert record["n_parameters"] == sum(m["n_parameters"] for m in alone)
    ranks = pl.read_parquet(tmp_path / "out/ranks.parquet")
    assert set(ranks["label"]) == {*models.split(",")}
    text = (tmp_path / "out/report.md").read_text()
    assert r"| SASRec+n_heads=1\|SASRecPlus+n_heads=1 | 1 |" in text

    assert main(command) == 0  # nothing runs again
    assert "FAILED" not in capsys.readouterr().out
    assert json.loads((folder / "result.json").read_text()) == record
