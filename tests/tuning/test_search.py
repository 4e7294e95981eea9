import os
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from recbole.trainer import HyperTuning

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.property_files import properties_dir
from recbole_mm.config.values import parse_value
from recbole_mm.run.run import run
from recbole_mm.tools.errors import RunFailed, UserError
from recbole_mm.tools.locks import locked
from recbole_mm.tuning import command, objective
from recbole_mm.tuning.distributions import distributions_of, to_params, to_point
from recbole_mm.tuning.optuna_search import run_by_optuna
from recbole_mm.tuning.search import tune, whole_keys
from recbole_mm.tuning.search_space import read_search_space
from recbole_mm.tuning.settings import SearchSettings
from recbole_mm.tuning.trials import Trials

pytest.importorskip("hyperopt", reason="tuning needs recbole_mm[tune]")
optuna = pytest.importorskip("optuna", reason="tuning needs recbole_mm[tune]")

SPACES = sorted((properties_dir() / "tuning").glob("*.hyper"))
TINY = {"hidden_size": 8, "inner_size": 8, "n_layers": 1, "epochs": 1}
GRID = "learning_rate choice [0.001,0.01]\nhidden_dropout_prob choice [0.1,0.3]\n"
HYPEROPT, OPTUNA = {"tool": "hyperopt"}, {"tool": "optuna", "jobs": 1}
ONE_BY_ONE = pytest.mark.parametrize("tool", [HYPEROPT, OPTUNA], ids=["hyperopt", "optuna"])


@pytest.fixture
def played(monkeypatch):
    """Trials without training: the score is known, every call is on record. The figures of the report,
    which take as long as all the rest, are those of other tests."""
    calls = []

    def play(config_dict, *_):
        calls.append(config_dict)
        if config_dict.get("n_heads") == 3:
            raise ValueError("3 heads do not divide 8")
        score = config_dict["learning_rate"] - config_dict.get("hidden_dropout_prob", 0) / 1000
        return score, 1

    monkeypatch.setattr(objective, "best_validation", play)
    monkeypatch.setattr("recbole_mm.tuning.report.svg_text", lambda _: "<svg/>")
    return calls


def search(tmp_path, toy, space=GRID, **settings):
    """A search in one process, unless the settings say otherwise."""
    (tmp_path / "space").write_text(space)
    fixed = {"model": "SASRec", **toy, **TINY}
    fixed.pop(settings.pop("free", None), None)
    settings = {"jobs": None if settings.get("tool") == "hyperopt" else 1, **settings}
    best, _ = tune(fixed, tmp_path / "space", Path("out"), SearchSettings(**settings))
    return yaml.safe_load(best.read_text())


def trials_of(path="out/journal.log"):
    """All trials of all searches in a journal."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    storage = optuna.storages.JournalStorage(backend)
    studies = optuna.get_all_study_names(storage)
    return [
        t for name in studies for t in optuna.load_study(study_name=name, storage=storage).trials
    ]


@ONE_BY_ONE
def test_a_grid_runs_to_its_end_and_the_best_is_written(tmp_path, toy, played, tool):
    grid = "learning_rate choice [" + ",".join(str(0.001 * i) for i in range(20, 0, -1)) + "]\n"

    best = search(tmp_path, toy, grid, algorithm="exhaustive", budget=1, patience=1, **tool)

    assert len(played) == 20  # RecBole alone would stop after ten trials without a better one
    assert best["learning_rate"] == pytest.approx(0.02)
    assert (best["model"], best["dataset"], best["epochs"]) == ("SASRec", "toy", 1)


def test_a_search_with_other_fixed_keys_is_another_one(tmp_path, toy, played):
    search(tmp_path, toy, algorithm="exhaustive")
    (tmp_path / "space").write_text(GRID)
    fixed = {"model": "SASRec", **toy, **TINY, "hidden_size": 16}

    best, _ = tune(fixed, tmp_path / "space", Path("out"), SearchSettings("exhaustive", jobs=1))

    assert len(played) == 8
    assert "exhaustive search, 4 trials" in best.read_text()
    assert yaml.safe_load(best.read_text())["hidden_size"] == 16


@ONE_BY_ONE
def test_a_search_in_another_space_does_not_report_the_old_best(
    tmp_path, toy, played, capsys, tool
):
    settings = {"algorithm": "exhaustive", **tool}
    search(tmp_path, toy, "learning_rate choice [0.01,0.5]\n", **settings)
    best = search(tmp_path, toy, "learning_rate choice [0.01,0.001]\n", **settings)

    assert best["learning_rate"] == 0.01
    assert "exhaustive search, 2 trials" in Path("out/best.yaml").read_text()
    assert [call["learning_rate"] for call in played].count(0.01) == 1  # known from before
    assert "searched:\nlearning_rate: one of [0.01, 0.001]" in capsys.readouterr().out


@ONE_BY_ONE
@pytest.mark.parametrize("algorithm", ["random", "bayes"])
@pytest.mark.parametrize(
    ("space", "legal"),
    [
        ("learning_rate uniform 0.1,0.2\n", lambda lr, _: 0.1 <= lr <= 0.2),
        ("learning_rate loguniform -9,-3\n", lambda lr, _: 0.0001 < lr < 0.05),
        (
            "hidden_size quniform 8,24,8\nlearning_rate choice [1,'2']\n",
            lambda lr, size: lr in (1, 2) and size in (8, 16, 24) and type(size) is int,
        ),
    ],
)
def test_every_tool_draws_legal_points_of_a_space(
    tmp_path, toy, monkeypatch, tool, algorithm, space, legal
):
    calls = []

    def play(config_dict, *_):
        calls.append((parse_value(str(config_dict["learning_rate"])), config_dict["hidden_size"]))
        return len(calls), 1

    monkeypatch.setattr(objective, "best_validation", play)
    (tmp_path / "space").write_text(space)
    fixed = {"model": "SASRec", **toy, "n_layers": 1, "inner_size": 8, "epochs": 1}
    if "hidden_size" not in space:
        fixed["hidden_size"] = 8

    tune(
        fixed,
        tmp_path / "space",
        Path("out"),
        SearchSettings(**{"algorithm": algorithm, "budget": 6, **tool}),
    )

    drawn = calls[1:] if tool["tool"] == "optuna" else calls  # its first trial is the defaults
    assert drawn
    assert all(legal(*call) for call in drawn)


@ONE_BY_ONE
def test_whole_numbers_of_a_range_are_whole_numbers(tmp_path, toy, played, tool):
    space = "train_batch_size quniform 8,16,8\nlearning_rate quniform 1,2,1\n"

    best = search(tmp_path, toy, space, algorithm="random", budget=3, **tool)

    assert {type(call["train_batch_size"]) for call in played} == {int}
    assert {type(call["learning_rate"]) for call in played} == {float}
    assert isinstance(best["train_batch_size"], int)


def test_a_line_that_was_cut_off_is_run_again(tmp_path, toy, played):
    search(tmp_path, toy, algorithm="exhaustive")
    path = tmp_path / "out/journal.log"
    best = Path("out/best.yaml").read_text()
    path.write_text(path.read_text()[:-20])

    search(tmp_path, toy, algorithm="exhaustive")

    assert len(played) == 5
    assert Path("out/best.yaml").read_text() == best
    assert not list(tmp_path.glob("out/*.damaged"))


def test_lines_that_are_damaged_in_any_way_are_run_again(tmp_path, toy, played, caplog):
    search(tmp_path, toy, algorithm="exhaustive")
    path, rng = tmp_path / "out/journal.log", random.Random(3)
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
    assert "is damaged; trials that are recorded from there on are run again" in caplog.text
    assert Path("out/journal.log.damaged").is_file()


@ONE_BY_ONE
@pytest.mark.parametrize("error", [TypeError("64.0"), ValueError("no pkg")])
def test_what_failed_is_tried_again_by_the_next_command(tmp_path, toy, monkeypatch, error, tool):
    tried = []

    def play(config_dict, *_):
        tried.append(config_dict["learning_rate"])
        if config_dict["learning_rate"] == 0.01 and len(tried) < 4:
            raise error
        return config_dict["learning_rate"], 1

    monkeypatch.setattr(objective, "best_validation", play)
    grid = "learning_rate choice [0.001,0.01,0.02]\n"
    settings = {"algorithm": "exhaustive", **tool}

    assert search(tmp_path, toy, grid, **settings)["learning_rate"] == 0.02
    assert sorted(tried) == [0.001, 0.01, 0.02]
    search(tmp_path, toy, grid, **settings)
    assert tried[3:] == [0.01]
    search(tmp_path, toy, grid, **settings)
    assert len(tried) == 4
    assert "exhaustive search, 3 trials" in Path("out/best.yaml").read_text()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("too little"), MemoryError()])
def test_what_failed_for_lack_of_memory_is_tried_again_at_the_end(
    tmp_path, toy, monkeypatch, error
):
    tried = []

    def play(config_dict, *_):
        tried.append(config_dict["learning_rate"])
        if tried == [0.001]:
            raise error
        return config_dict["learning_rate"], 1

    monkeypatch.setattr(objective, "best_validation", play)
    grid = "learning_rate choice [0.001,0.01,0.02]\n"

    search(tmp_path, toy, grid, algorithm="exhaustive")

    assert tried == [0.001, 0.01, 0.02, 0.001]
    assert "3 trials (3 complete, 0 pruned, 0 failed)" in Path("out/report.html").read_text()


@ONE_BY_ONE
def test_a_key_that_is_given_is_not_searched(tmp_path, toy, played, tool):
    (tmp_path / "space").write_text(GRID)
    fixed = {"model": "SASRec", **toy, **TINY, "hidden_dropout_prob": 0.2}
    settings = SearchSettings("exhaustive", **tool)

    best, _ = tune(fixed, tmp_path / "space", Path("out"), settings)

    assert [call["hidden_dropout_prob"] for call in played] == [0.2, 0.2]
    assert yaml.safe_load(best.read_text())["hidden_dropout_prob"] == 0.2


@ONE_BY_ONE
@pytest.mark.parametrize("algorithm", ["exhaustive", "random", "bayes"])
def test_a_search_resumes_where_it_was_interrupted(
    tmp_path, toy, played, monkeypatch, algorithm, tool
):
    space = "learning_rate choice [0.1,0.2,0.3]\nhidden_dropout_prob choice [0.1,0.2]\n"
    settings = {"algorithm": algorithm, "budget": 5, **tool}
    best = search(tmp_path, toy, space, **settings)
    undisturbed = list(played)
    (tmp_path / "out/journal.log").unlink()
    played.clear()
    play = objective.best_validation

    def interrupt(*arguments, **more):
        if len(played) == 2:
            raise KeyboardInterrupt
        return play(*arguments, **more)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(objective, "best_validation", interrupt)
        search(tmp_path, toy, space, **settings)

    assert search(tmp_path, toy, space, **settings) == best
    assert played == undisturbed
    search(tmp_path, toy, space, **settings)
    assert played == undisturbed  # nothing is left to do


def test_the_first_trial_is_that_of_the_defaults_even_outside_of_the_space(tmp_path, toy, played):
    space = "learning_rate choice [0.5,0.7]\nhidden_dropout_prob uniform 0.1,0.9\n"
    defaults = load_config("SASRec", "toy", config_dict=toy)

    search(tmp_path, toy, space, budget=3)

    expected = {key: defaults[key] for key in ("learning_rate", "hidden_dropout_prob")}
    assert {key: played[0][key] for key in expected} == expected
    first, second, _ = trials_of()
    assert first.user_attrs["point"] == expected
    assert first.params == {"hidden_dropout_prob": expected["hidden_dropout_prob"]}
    assert set(second.params) == set(expected)


def test_draws_follow_from_the_seed(tmp_path, toy, played):
    space = "learning_rate uniform 0.1,0.9\nhidden_dropout_prob uniform 0.1,0.9\n"
    drawn = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        played.clear()
        search(tmp_path, toy, space, budget=14, seed=seed)  # bayes draws at random ten times
        (tmp_path / "out/journal.log").unlink()
        drawn[name] = [call["learning_rate"] for call in played]

    assert drawn["a"] == drawn["b"] != drawn["c"]
    assert len(set(drawn["a"])) == 14


def test_a_larger_budget_adds_trials_and_no_point_is_drawn_twice(tmp_path, toy, played):
    space = "learning_rate choice [0.1,0.2,0.3]\nhidden_dropout_prob choice [0.1,0.2]\n"
    search(tmp_path, toy, space, budget=3)
    first = list(played)

    search(tmp_path, toy, space, budget=50)

    assert played[:3] == first
    points = [(call["learning_rate"], call["hidden_dropout_prob"]) for call in played]
    assert (
        len(set(points)) == len(points) == 6 + 1
    )  # the grid, and the defaults, which are not in it


def test_a_search_ends_when_patience_does(tmp_path, toy, monkeypatch):
    tried = []

    def play(config_dict, *_):
        tried.append(config_dict["learning_rate"])
        return 1.0 / len(tried), 1

    monkeypatch.setattr(objective, "best_validation", play)

    search(tmp_path, toy, "learning_rate uniform 0.1,0.2\n", budget=20, patience=3)

    assert len(tried) == 4


@pytest.mark.parametrize("pruner", ["median", "asha", "none"])
def test_a_bad_trial_is_pruned(tmp_path, toy, monkeypatch, pruner):
    epochs = {}

    def play(config_dict, _files, on_validation):
        quality = config_dict["learning_rate"]
        for epoch in range(20):
            epochs[quality] = epoch + 1
            on_validation(epoch, quality * (epoch + 1))
        return quality * 20, 20

    monkeypatch.setattr(objective, "best_validation", play)
    good, bad = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], 0.01
    grid = f"learning_rate choice {[*good, bad]}\n"

    best = search(tmp_path, toy, grid, algorithm="exhaustive", pruner=pruner)

    assert best["learning_rate"] == 0.9
    *_, last = trials_of()
    if pruner == "none":
        assert epochs[bad] == 20
    else:
        assert epochs[bad] <= 6
        assert last.state == optuna.trial.TrialState.PRUNED
    assert ("<td>pruned</td>" in Path("out/report.html").read_text()) == (pruner != "none")


def test_a_pruned_training_ends_at_that_validation(toy):
    fixed = {"model": "MMM4Rec", **toy, **TINY, "head_dim": 8, "d_state": 4, "n_groups": 1}
    seen = []

    def judge(epoch, score):
        seen.append((epoch, score))
        return epoch == 1

    outcome = objective.Objective({**fixed, "epochs": 5}, [])({"learning_rate": 0.01}, judge)

    assert (outcome.state, outcome.epochs, outcome.score) == ("pruned", 2, None)
    assert [epoch for epoch, _ in seen] == [0, 1]


@pytest.mark.usefixtures("played")
@ONE_BY_ONE
def test_a_failing_trial_is_on_record_and_not_the_best(tmp_path, toy, tool, capsys):
    space = "n_heads choice [1,3]\nlearning_rate choice [0.01]\n"

    best = search(tmp_path, toy, space, algorithm="exhaustive", **tool)

    assert best["n_heads"] == 1
    assert "3 heads do not divide 8" in [t.user_attrs["reason"] for t in trials_of()]
    assert ": FAILED: 3 heads do not divide 8" in capsys.readouterr().out
    assert "3 heads do not divide 8" in Path("out/report.html").read_text()


@pytest.mark.usefixtures("played")
@ONE_BY_ONE
def test_trials_that_all_fail_end_the_search(tmp_path, toy, tool):
    with pytest.raises(ConfigError, match="all 1 trials failed: 3 heads do not divide 8"):
        search(tmp_path, toy, "n_heads choice [3]\n", algorithm="exhaustive", **tool)


def test_a_second_search_in_the_folder_is_refused_while_the_first_runs(tmp_path, toy, played):
    (tmp_path / "out").mkdir()
    with (
        locked(tmp_path / "out/lock", "held by the test"),
        pytest.raises(UserError, match="another search is running in out: wait for it"),
    ):
        search(tmp_path, toy)
    assert not played


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        (
            "learning_rat choice [1,2]\n",
            {},
            "search space '.*', line 1: unknown key 'learning_rat'",
        ),
        ("learning_rate choice [0.1,0]\n", {}, "'learning_rate' is 0; it must be a number > 0"),
        (
            "n_layers uniform 1,3\n",
            {"free": "n_layers"},
            "'n_layers' is 1.0; it must be a whole number >= 1",
        ),
        (
            "n_layers quniform 0,3,1\n",
            {"free": "n_layers"},
            "'n_layers' is 0; it must be a whole number >= 1",
        ),
        ("hidden_dropout_prob loguniform -2,0\n", {}, "'hidden_dropout_prob' is 1.0; it must be"),
        ("interest_ratio choice [0.1,0.2]\n", {}, "line 1: SASRec does not read interest_ratio"),
        ("learning_rate among [1,2]\n", {}, "line 1"),
        ("learning_rate uniform 'a','b'\n", {}, "line 1"),
        ("learning_rate choice [1,2\n", {}, "line 1: 'learning_rate choice \\[1,2' is not one of"),
        ("learning_rate choice [print(1)]\n", {}, "is not one of"),
        ("# one value\n\nlearning_rate uniform 1\n", {}, "line 3"),
        (
            "learning_rate choice[0.1,0.01]\n",
            {},
            "line 1: 'learning_rate choice\\[0.1,0.01\\]' is not one",
        ),
        ("learning_rate loguniform -8,1000\n", {}, "-8,1000': give numbers from -709.8 to 709.8"),
        ("weight_decay quniform 0,1e999,1\n", {}, "give numbers from -1.798e\\+308 to"),
        ("learning_rate uniform 1,2,3\n", {}, "line 1"),
        ("learning_rate lognormal 1,2\n", {}, "line 1"),
        ("epochs choice [1,2]\n", {}, "every key is given"),
        ("topk choice []\n", {}, "line 1"),
        ("learning_rate uniform 2,1\n", {}, "write the lower end first, and a step > 0"),
        ("learning_rate quniform 1,2,0\n", {}, "write the lower end first, and a step > 0"),
        ("train_batch_size quniform 9,15,8\n", {}, "no multiple of 8 lies between 9 and 15"),
        (
            "learning_rate loguniform 0.0001,0.0017\n",
            {},
            r"from exp\(0.0001\) = 1.0001 to exp\(0.0017\) = 1.0017, .* `loguniform -9.21,-6.377`",
        ),
        (GRID + "learning_rate uniform 1,2\n", {}, "line 3: duplicate key 'learning_rate', first"),
        (GRID, {"algorithm": "genetic"}, "--algorithm=genetic: must be one of bayes"),
        (GRID, {"tool": "grid"}, "--tool=grid: must be one of optuna, hyperopt, ray"),
        (GRID, {"pruner": "all"}, "--pruner=all: must be one of median, asha, none"),
        (GRID, {"tool": "ray", "jobs": 0}, "--jobs=0: give a number >= 1"),
        (GRID, {"tool": "hyperopt", "jobs": 2}, "--jobs needs --tool=optuna or ray"),
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
    options = {
        "model": "SASRec",
        **toy,
        **TINY,
        "space": space,
        "budget": 1,
        "out": "out",
        "jobs": 1,
    }

    assert main(["tune", *(f"--{key}={value}" for key, value in options.items())]) == 0

    (trial,) = trials_of()
    result = run(config_files=["out/best.yaml"])
    assert result.best_valid_score == trial.value
    assert "test" not in (tmp_path / "out/journal.log").read_text()
    page = (tmp_path / "out/report.html").read_text()
    assert "1 trials (1 complete, 0 pruned, 0 failed)" in page
    assert "learning_rate: 0.001" in page  # the defaults


@pytest.mark.slow
def test_trials_side_by_side_find_what_the_grid_finds_and_none_runs_twice(tmp_path, toy, capfd):
    space = tmp_path / "space"
    space.write_text("learning_rate choice [0.001,0.01,0.1]\n")
    fixed = {"model": "MMM4Rec", **toy, **TINY, "head_dim": 8, "d_state": 4, "n_groups": 1}
    scores = {}
    for jobs in (1, 2):
        settings = SearchSettings("exhaustive", jobs=jobs)
        fixed["show_progress"] = False
        tune(fixed, space, tmp_path / f"out{jobs}", settings)
        trials = trials_of(tmp_path / f"out{jobs}/journal.log")
        scores[jobs] = {trial.user_attrs["point"]["learning_rate"]: trial.value for trial in trials}
        assert len(trials) == 3
    captured = capfd.readouterr()

    assert set(scores[2]) == {0.001, 0.01, 0.1}
    assert scores[1] == scores[2]
    assert captured.err == ""


@pytest.mark.slow
def test_ray_finds_what_one_process_finds_and_leaves_nothing_behind(tmp_path, toy, capfd):
    pytest.importorskip("ray", reason="--tool=ray needs recbole_mm[tune]")
    space = tmp_path / "space"
    space.write_text("learning_rate choice [0.001,0.01]\n")
    fixed = {"model": "MMM4Rec", **toy, **TINY, "head_dim": 8, "d_state": 4, "n_groups": 1}
    fixed["show_progress"] = False
    scores, before = {}, set(os.environ)
    for tool in ("optuna", "ray"):
        settings = SearchSettings("exhaustive", tool=tool, jobs=1 if tool == "optuna" else 2)
        tune(fixed, space, tmp_path / tool, settings)
        captured = capfd.readouterr()
        trials = trials_of(tmp_path / tool / "journal.log")
        scores[tool] = {t.user_attrs["point"]["learning_rate"]: t.value for t in trials}

    assert set(scores["ray"]) == {0.001, 0.01}
    assert scores["ray"] == scores["optuna"]
    assert len(captured.out.splitlines()) == 4  # what is searched, and a line per trial
    assert captured.err == ""
    folders = {"dataset", "optuna", "log", "log_tensorboard", "ray", "saved", "space"}
    assert {path.name for path in tmp_path.iterdir()} <= folders
    from recbole_mm.tuning.ray_search import SETTINGS

    assert not set(SETTINGS) & (set(os.environ) - before)


def test_ray_prunes_and_tries_again_as_the_study_decides(tmp_path):
    ray_search = pytest.importorskip("recbole_mm.tuning.ray_search", reason="needs ray[tune]")
    rates, bad = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], 0.01
    space = {"choice": {"learning_rate": [*rates, bad]}}
    settings = SearchSettings("exhaustive", tool="ray")
    trials = Trials(tmp_path / "journal.log", "toy", space, settings, True, log=lambda _: None)
    searcher = ray_search.StudySearcher(trials)
    scheduler = ray_search.StudyScheduler(searcher)
    tried = []

    while (point := searcher.suggest(name := str(len(tried)))) != searcher.FINISHED:
        rate = point["learning_rate"]
        tried.append(rate)
        if tried.count(0.7) == 1 and rate == 0.7:
            searcher.on_trial_complete(name, error=True)  # as Ray does when its node has died
            continue
        for epoch in range(9):
            result = {"epoch": epoch, "score": rate * (epoch + 1), "time_total_s": 1.0}
            ray_trial = SimpleNamespace(trial_id=name)
            if scheduler.on_trial_result(None, ray_trial, result) == scheduler.STOP:
                break
        else:
            result = objective.Outcome("complete", rate, 9, 1.0)._asdict()
            assert scheduler.on_trial_result(None, ray_trial, result) == scheduler.CONTINUE
        searcher.on_trial_complete(name, result)

    assert tried == [*rates, bad, 0.7]
    states = {t.user_attrs["point"]["learning_rate"]: t.state.name for t in trials.ended}
    assert states == {**dict.fromkeys(rates, "COMPLETE"), bad: "PRUNED"}


def kill_itself(point, judge, **_):
    """An objective whose process dies in one point, the first time."""
    if point["learning_rate"] == 0.01 and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), 9)
    judge(0, point["learning_rate"])
    return objective.Outcome("complete", point["learning_rate"], 1, 0.1)


def fail(*_, **__):
    """An objective of a model with a fault."""
    return {}["a very special key"]


@pytest.mark.slow
def test_what_a_trial_raises_names_the_trial_and_has_its_traceback(tmp_path):
    space = {"choice": {"learning_rate": [0.001]}}  # one process is started
    trials = Trials(tmp_path / "journal.log", "toy", space, SearchSettings("exhaustive"), True)

    with pytest.raises(
        RunFailed, match="trial .*learning_rate(?s:.*)in fail(?s:.*)KeyError: 'a very special"
    ):
        run_by_optuna(trials, fail, 2, [], tmp_path)


@pytest.mark.slow
def test_a_worker_that_dies_ends_its_trial_only_which_is_tried_again(tmp_path):
    space = {"choice": {"learning_rate": [0.001, 0.01, 0.1]}}
    lines = []
    trials = Trials(
        tmp_path / "journal.log", "toy", space, SearchSettings("exhaustive"), True, log=lines.append
    )

    run_by_optuna(trials, kill_itself, 2, [], tmp_path)

    assert sorted(trial.value for trial in trials.ended) == [0.001, 0.01, 0.1]
    assert any("its process was killed by SIGKILL (out of memory?" in line for line in lines)
    assert trials.best().value == 0.1


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


@pytest.mark.parametrize(
    ("line", "drawn"),
    [
        ("0.1,0.3,0.1", [0.1, 0.2, 0.3]),
        ("0.05,0.7,0.1", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("0,0.9,0.3", [0.0, 0.3, 0.6, 0.9]),
        ("8,24,8", [8.0, 16.0, 24.0]),
    ],
)
def test_a_range_in_steps_has_both_ends_as_they_are_written(line, drawn):
    low, high, step = map(float, line.split(","))
    space = {"quniform": {"dropout": [low, high, step]}}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))

    found = {
        to_point(study.ask(distributions_of(space)).params, space)["dropout"] for _ in range(100)
    }

    assert sorted(found) == drawn
    assert to_params({"dropout": drawn[-1]}, space) == {"dropout": pytest.approx(drawn[-1])}


def test_a_default_that_equals_a_choice_is_not_tried_twice(tmp_path, toy, played):
    space = "hidden_dropout_prob choice [0,0.5]\nlearning_rate choice [0.01]\n"
    (tmp_path / "space").write_text(space)
    fixed = {"model": "SASRec", **toy, **TINY}
    (tmp_path / "own.yaml").write_text("hidden_dropout_prob: 0.0\nlearning_rate: 0.01\n")

    tune(fixed, tmp_path / "space", Path("out"), SearchSettings(jobs=1), [tmp_path / "own.yaml"])

    assert [call["hidden_dropout_prob"] for call in played] == [0.0, 0.5]


@pytest.mark.usefixtures("played")
def test_the_best_has_partial_mappings_of_all_layers(tmp_path, toy):
    (tmp_path / "space").write_text(GRID)
    (tmp_path / "own.yaml").write_text("eval_args: {mode: uni100}\n")
    fixed = {"model": "SASRec", **toy, **TINY, "eval_args": {"split": {"LS": "valid_only"}}}
    settings = SearchSettings("exhaustive", jobs=1)

    best, _ = tune(fixed, tmp_path / "space", Path("out"), settings, [tmp_path / "own.yaml"])

    values = yaml.safe_load(best.read_text())
    assert values["eval_args"] == {"mode": "uni100", "split": {"LS": "valid_only"}}
    assert "show_progress" not in values


@pytest.mark.usefixtures("played")
def test_a_user_is_told_that_another_search_had_written_the_best(tmp_path, toy, capsys):
    search(tmp_path, toy, "learning_rate choice [0.5]\n", algorithm="exhaustive")
    assert "is replaced" not in capsys.readouterr().out
    search(tmp_path, toy, GRID, algorithm="exhaustive")
    first = capsys.readouterr().out
    search(tmp_path, toy, GRID, algorithm="exhaustive")

    assert re.search(
        r"out/best.yaml is replaced; .*another search \(validation \S+ 0.5\d*\)", first
    )
    assert "is replaced" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "given", "gpus"),
    [
        ("{}", {}, ["0", "1", "2", "3"]),
        ("gpu_id: '1'", {}, ["1"]),
        ("gpu_id: '1'", {"gpu_id": "2,3"}, ["2", "3"]),
        ("use_gpu: False", {}, []),
    ],
)
def test_a_search_has_the_gpus_of_all_layers(tmp_path, toy, monkeypatch, files, given, gpus):
    seen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("recbole_mm.tuning.search._run", lambda *found: seen.append(found[4]))
    monkeypatch.setattr("recbole_mm.tuning.search._write_best", lambda *_: None)
    monkeypatch.setattr("recbole_mm.tuning.report.write_report", lambda *_: None)
    (tmp_path / "space").write_text(GRID)
    (tmp_path / "own.yaml").write_text(files)
    fixed = {"model": "SASRec", **toy, **TINY, **given}

    tune(fixed, tmp_path / "space", Path("out"), SearchSettings(), [tmp_path / "own.yaml"])

    assert seen == [gpus]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tool=hyperopt", "--pruner=asha"], "--pruner=asha: --tool=hyperopt does not prune"),
        (["--algorithm=exhaustive", "--patience=2"], "--patience: --algorithm=exhaustive runs"),
        (["--algorithm=foo"], "--algorithm=foo: must be one of"),
        (["--budget=0"], "--budget=0: give a number >= 1"),
    ],
)
def test_options_are_refused_before_data_are_made(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError, match=message):
        command.main(["--model=SASRec", "--dataset=demo", *options])
    assert not list(tmp_path.iterdir())


def test_a_key_without_a_default_may_have_whole_numbers():
    keys = ["feature_dimension", "learning_rate", "hidden_size", "temperature", "softmax"]

    assert {"feature_dimension", "hidden_size"} <= whole_keys("MMM4Rec", keys)
    assert not {"learning_rate", "temperature"} & whole_keys("MMM4Rec", keys)
