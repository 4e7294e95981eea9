import json
import os
import random
from pathlib import Path

import pytest
import torch
import yaml
from recbole.trainer import HyperTuning

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.property_files import properties_dir
from recbole_mm.run.run import run
from recbole_mm.tools.errors import UserError
from recbole_mm.tuning import trials
from recbole_mm.tuning.search import TOOLS, SearchSettings, tune
from recbole_mm.tuning.search_space import read_search_space

pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")

SPACES = sorted((properties_dir() / "tuning").glob("*.hyper"))
TINY = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "epochs": 1}
GRID = "learning_rate choice [0.001,0.01]\nhidden_dropout_prob choice [0.1,0.3]\n"


@pytest.fixture
def played(monkeypatch):
    """Trials without training: the score is known, every call is on record."""
    calls = []

    def objective(config_dict, _files, **_):
        calls.append(config_dict)
        if config_dict.get("n_heads") == 3:
            raise ValueError("3 heads do not divide 8")
        score = config_dict["learning_rate"] - config_dict.get("hidden_dropout_prob", 0) / 1000
        return {"best_valid_score": score, "epochs": 1, "seconds": 1.0}

    monkeypatch.setattr(trials, "objective_function", objective)
    return calls


def search(tmp_path, toy, space=GRID, **settings):
    (tmp_path / "space").write_text(space)
    fixed = {"model": "SASRec", **toy, **TINY}
    best = tune(fixed, tmp_path / "space", Path("out"), SearchSettings(**settings))
    return yaml.safe_load(best.read_text())


def test_a_grid_runs_to_its_end_and_the_best_is_written(tmp_path, toy, played):
    grid = "learning_rate choice [" + ",".join(str(0.001 * i) for i in range(20, 0, -1)) + "]\n"

    best = search(tmp_path, toy, grid, algorithm="exhaustive", patience=1, budget=1)

    assert len(played) == 20  # RecBole alone would stop after ten trials without a better one
    assert best["learning_rate"] == pytest.approx(0.02)
    assert (best["model"], best["dataset"], best["epochs"]) == ("SASRec", "toy", 1)


def test_a_search_with_other_fixed_keys_is_another_one(tmp_path, toy, played):
    search(tmp_path, toy, algorithm="exhaustive")
    (tmp_path / "space").write_text(GRID)
    fixed = {"model": "SASRec", **toy, **TINY, "hidden_size": 16}

    best = tune(fixed, tmp_path / "space", Path("out"), SearchSettings("exhaustive"))

    assert len(played) == 8
    assert "exhaustive search, 4 trials" in best.read_text()
    assert yaml.safe_load(best.read_text())["hidden_size"] == 16


def test_a_search_in_another_space_does_not_report_the_old_best(tmp_path, toy, played, capsys):
    search(tmp_path, toy, "learning_rate choice [0.01,0.5]\n", algorithm="exhaustive")
    best = search(tmp_path, toy, "learning_rate choice [0.01,0.001]\n", algorithm="exhaustive")

    assert best["learning_rate"] == 0.01
    assert "exhaustive search, 2 trials" in Path("out/best.yaml").read_text()
    assert [call["learning_rate"] for call in played].count(0.01) == 1  # known from before
    assert "searched:\nlearning_rate: one of [0.01, 0.001]" in capsys.readouterr().out


@pytest.mark.usefixtures("played")
def test_trials_outside_a_range_do_not_count(tmp_path, toy, capsys):
    search(tmp_path, toy, "learning_rate uniform 0.1,0.2\n", budget=3)
    best = search(tmp_path, toy, "learning_rate loguniform -9,-3\n", budget=3)
    assert 0.0001 < best["learning_rate"] < 0.05
    assert "learning_rate: 0.00012341 to 0.049787 (loguniform)" in capsys.readouterr().out

    best = search(tmp_path, toy, "n_heads choice [1]\nlearning_rate quniform 1,3,1\n", budget=2)
    assert best["learning_rate"] in (1, 2, 3)


def test_a_line_that_was_cut_off_is_passed_over(tmp_path, toy, played):
    search(tmp_path, toy, algorithm="exhaustive")
    path = tmp_path / "out/trials.jsonl"
    path.write_text(path.read_text()[:-20])

    search(tmp_path, toy, algorithm="exhaustive")

    assert len(played) == 5
    assert len(path.read_text().splitlines()) == 5


def test_lines_that_are_damaged_in_any_way_are_run_again(tmp_path, toy, played, caplog):
    search(tmp_path, toy, algorithm="exhaustive")
    path, rng = tmp_path / "out/trials.jsonl", random.Random(3)
    best = Path("out/best.yaml").read_text()
    whole = path.read_bytes()
    for _ in range(20):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 9)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(bytes(content))
        search(tmp_path, toy, algorithm="exhaustive")
        assert Path("out/best.yaml").read_text() == best
    assert len(played) > 4
    assert f"{Path('out/trials.jsonl')}: skipped a damaged line" in caplog.text


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("too little"), MemoryError(), TypeError("64.0"), ValueError("no pkg")],
)
def test_what_failed_is_tried_again_by_the_next_command(tmp_path, toy, monkeypatch, error):
    tried = []

    def objective(config_dict, *_, **__):
        tried.append(config_dict["learning_rate"])
        if config_dict["learning_rate"] == 0.01 and len(tried) < 4:
            raise error
        return {"best_valid_score": config_dict["learning_rate"], "epochs": 1, "seconds": 1.0}

    monkeypatch.setattr(trials, "objective_function", objective)
    grid = "learning_rate choice [0.001,0.01,0.02]\n"
    settings = {"algorithm": "exhaustive"}

    assert search(tmp_path, toy, grid, **settings)["learning_rate"] == 0.02
    assert sorted(tried) == [0.001, 0.01, 0.02]
    search(tmp_path, toy, grid, **settings)
    assert tried[3:] == [0.01]
    search(tmp_path, toy, grid, **settings)
    assert len(tried) == 4
    assert "exhaustive search, 3 trials" in Path("out/best.yaml").read_text()


def test_whole_numbers_of_a_range_are_whole_numbers(tmp_path, toy, played):
    space = "hidden_size quniform 8,16,8\nlearning_rate quniform 1,2,1\n"

    best = search(tmp_path, toy, space, algorithm="random", budget=2)

    assert {type(call["hidden_size"]) for call in played} == {int}
    assert {type(call["learning_rate"]) for call in played} == {float}
    assert isinstance(best["hidden_size"], int)


def test_a_key_that_is_given_is_not_searched(tmp_path, toy, played):
    (tmp_path / "space").write_text(GRID)
    fixed = {"model": "SASRec", **toy, **TINY, "hidden_dropout_prob": 0.2}

    best = tune(fixed, tmp_path / "space", Path("out"), SearchSettings("exhaustive"))

    assert [call["hidden_dropout_prob"] for call in played] == [0.2, 0.2]
    assert yaml.safe_load(best.read_text())["hidden_dropout_prob"] == 0.2


@pytest.mark.parametrize("algorithm", ["exhaustive", "random", "bayes"])
def test_a_search_goes_on_where_it_was(tmp_path, toy, played, algorithm):
    search(tmp_path, toy, algorithm=algorithm, budget=4)
    first = len(played)
    records = (tmp_path / "out/trials.jsonl").read_text().splitlines()
    assert len(records) == first

    # the last trial is lost, as if the search had been killed in it
    (tmp_path / "out/trials.jsonl").write_text("".join(f"{line}\n" for line in records[:-1]))
    search(tmp_path, toy, algorithm=algorithm, budget=4)

    assert played[first:] == [played[first - 1]]


@pytest.mark.usefixtures("played")
def test_a_failing_trial_is_on_record_and_not_the_best(tmp_path, toy):
    best = search(
        tmp_path, toy, "n_heads choice [1,3]\nlearning_rate choice [0.01]\n", algorithm="exhaustive"
    )

    assert best["n_heads"] == 1
    lines = (tmp_path / "out/trials.jsonl").read_text().splitlines()
    errors = [json.loads(line).get("error") for line in lines]
    assert "3 heads do not divide 8" in errors


@pytest.mark.usefixtures("played")
def test_trials_that_all_fail_end_the_search(tmp_path, toy):
    with pytest.raises(ConfigError, match="all 1 trials failed: 3 heads do not divide 8"):
        search(tmp_path, toy, "n_heads choice [3]\n", algorithm="exhaustive")


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (
            "learning_rat choice [1,2]\n",
            {},
            "search space '.*', line 1: unknown key 'learning_rat'",
        ),
        ("learning_rate choice [0.1,0]\n", {}, "'learning_rate' is 0; it must be a number > 0"),
        ("num_layers uniform 1,3\n", {}, "'num_layers' is 1.0; it must be a whole number >= 1"),
        ("num_layers quniform 0,3,1\n", {}, "'num_layers' is 0; it must be a whole number >= 1"),
        ("dropout_prob loguniform -2,0\n", {}, "'dropout_prob' is 1.0; it must be a number >= 0"),
        ("learning_rate among [1,2]\n", {}, "line 1"),
        ("learning_rate uniform 'a','b'\n", {}, "line 1"),
        ("learning_rate choice [1,2\n", {}, "line 1: 'learning_rate choice \\[1,2' is none of"),
        ("learning_rate choice [print(1)]\n", {}, "is none of"),
        ("a b\nlearning_rate uniform 1\n", {}, "line 2"),
        ("learning_rate uniform 1,2,3\n", {}, "line 1"),
        ("learning_rate lognormal 1,2\n", {}, "line 1"),
        ("epochs choice [1,2]\n", {}, "every key is given"),
        ("topk choice []\n", {}, "line 1"),
        ("learning_rate uniform 2,1\n", {}, "write the lower end first, and a step > 0"),
        ("learning_rate quniform 1,2,0\n", {}, "write the lower end first, and a step > 0"),
        (
            "learning_rate loguniform 0.0001,0.0017\n",
            {},
            r"from exp\(0.0001\) = 1.0001 to exp\(0.0017\) = 1.0017, .* `loguniform -9.21,-6.377`",
        ),
        (GRID + "learning_rate uniform 1,2\n", {}, "line 3: duplicate key 'learning_rate', first"),
        (GRID, {"algorithm": "genetic"}, "--algorithm=genetic: must be one of exhaustive"),
        (GRID, {"tool": "optuna"}, "--tool=optuna: must be one of hyperopt, ray"),
        (GRID, {"tool": "ray", "jobs": 0}, "--jobs=0: give a number >= 1"),
        (GRID, {"tool": "ray", "patience": 3}, "--patience needs --tool=hyperopt"),
        (GRID, {"jobs": 2}, "--jobs needs --tool=ray"),
        (GRID, {"tool": "ray", "jobs": 2, "algorithm": "bayes"}, "--jobs=2: bayes draws"),
        (
            "learning_rate uniform 0.1,0.2\n",
            {"algorithm": "exhaustive"},
            "learning_rate: only a `choice`",
        ),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(tmp_path, toy, played, space, settings, message):
    with pytest.raises(ConfigError, match=message):
        search(tmp_path, toy, space, **settings)
    assert not played


def test_no_search_space_lists_those_that_there_are(toy):
    with pytest.raises(ConfigError, match="The package has search spaces for .*MMM4Rec"):
        tune({"model": "NARM", **toy}, Path("NARM.hyper"), Path("out"), SearchSettings())


def test_the_best_configuration_runs(tmp_path, toy):
    space = tmp_path / "space"
    space.write_text("learning_rate choice [0.01]\n")
    options = {"model": "SASRec", **toy, **TINY, "space": space, "budget": 1, "out": "out"}

    assert main(["tune", *(f"--{key}={value}" for key, value in options.items())]) == 0

    trial = json.loads((tmp_path / "out/trials.jsonl").read_text())
    result = run(config_files=["out/best.yaml"])
    assert result.best_valid_score == trial["valid_score"]
    assert "test" not in json.dumps(trial)


@pytest.mark.slow
def test_ray_finds_what_the_grid_finds_and_leaves_nothing_behind(tmp_path, toy, capfd):
    pytest.importorskip("pyarrow", reason="Ray Tune needs recbole_mm[tune]")
    space = tmp_path / "space"
    space.write_text("learning_rate choice [0.001,0.01]\n")
    fixed = {"model": "MMM4Rec", **toy, **TINY, "head_dim": 8, "d_state": 4, "n_groups": 1}
    found, before = {}, set(os.environ)
    for tool in TOOLS:
        out = tmp_path / tool
        settings = SearchSettings("exhaustive", tool=tool, jobs=2 if tool == "ray" else None)
        best = tune(fixed, space, out, settings)
        captured = capfd.readouterr()
        records = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
        scores = {trial["params"]["learning_rate"]: trial["valid_score"] for trial in records}
        found[tool] = scores, yaml.safe_load(best.read_text())

    assert set(found["ray"][0]) == {0.001, 0.01}
    assert found["ray"] == found["hyperopt"]
    assert len(captured.out.splitlines()) == 4  # what is searched, and a line per trial
    assert captured.err == ""
    folders = {"dataset", "hyperopt", "log", "log_tensorboard", "ray", "saved", "space"}
    assert {path.name for path in tmp_path.iterdir()} <= folders
    from recbole_mm.tuning.ray_search import SETTINGS

    assert not set(SETTINGS) & (set(os.environ) - before)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_value_of_a_search_space_makes_a_configuration(path):
    search = HyperTuning(
        print, params_dict=read_search_space(path, {"model": path.stem}), algo="random"
    )
    choices = [line.split(" ", 2) for line in path.read_text().splitlines()]

    assert set(search.space) == {key for key, _, _ in choices}
    defaults = load_config(path.stem, "demo")
    for key, kind, values in choices:
        assert kind == "choice"
        assert defaults[key] is not None, f"{path.stem} has no key {key}"
        for value in yaml.safe_load(values):
            load_config(path.stem, "demo", (), {key: value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"budget": 0}, "--budget=0: give a number >= 1"), ({}, "cannot write to the folder .*out")],
)
def test_no_trial_and_no_folder_are_wrong_input(tmp_path, toy, played, settings, message):
    (tmp_path / "out").write_text("a file")

    with pytest.raises(UserError, match=message):
        search(tmp_path, toy, **settings)
    assert not played
