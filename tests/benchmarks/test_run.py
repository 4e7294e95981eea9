"""The benchmark of steps runs, saves, and tells what became worse; no time is asserted."""

import json
import sys

import pytest


@pytest.fixture(scope="module")
def benchmark(repository):
    folder = str(repository / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import run

        yield run
    finally:
        sys.path.remove(folder)
        for name in ("run", "costs", "synthetic"):
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def saved(benchmark, tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "speed.json"
    arguments = ["--tiny", "--repeats=1", "--warmup=0", f"--save={path}"]
    assert benchmark.main([*arguments, "--options=use_item_id=True,temperature=0.5"]) == 0
    return path


def test_every_model_is_measured_in_training_and_evaluation_beside_its_variant(saved):
    rows = json.loads(saved.read_text())["rows"]

    assert [(row["model"], row["task"], row["options"]) for row in rows] == [
        (model, task, options)
        for model in ("MMM4Rec", "MISSRec", "UniSRec", "SASRecPlus", "HSTU")
        for task in ("training", "evaluation")
        for options in ("", "use_item_id=True, temperature=0.5")
    ]
    assert all(row["gflop"] > 0 and row["peak_mb"] > 0 and row["floor_ms"] > 0 for row in rows)
    assert {row["ratio"] for row in rows if not row["options"]} == {1.0}


@pytest.mark.usefixtures("benchmark")
def test_the_floor_of_a_product_is_its_operations():
    import torch
    from costs import count_costs

    model = torch.nn.Linear(4, 3, bias=False)
    x = torch.ones(2, 4)

    forward = count_costs(torch.no_grad()(model), x, model, training=False)
    both = count_costs(lambda x: model(x).sum().backward(), x, model, training=True)

    assert forward == (2 * 2 * 4 * 3, 4 * (3 * 4 + 2 * 3))
    # the gradient of the weight is one more product; the input is kept for it
    assert both == (2 * forward.flops, 4 * (10 * 3 * 4 + 2 * 2 * 4))


@pytest.mark.usefixtures("benchmark")
def test_peak_memory_counts_what_is_held_at_the_same_time():
    import torch
    from costs import peak_bytes

    def step(x):
        y = x + 1
        z = y + 1
        del y
        return z + 1

    x = torch.zeros(1000)
    scalars = 100
    peak = peak_bytes(step, x, torch.nn.Linear(1, 1))
    assert 2 * x.nbytes <= peak < 2 * x.nbytes + scalars


@pytest.mark.parametrize("key", ["time_over_floor", "ratio", "gflop", "peak_mb"])
def test_check_names_what_exceeds_the_stored_figure(benchmark, saved, key):
    rows = json.loads(saved.read_text())["rows"]
    better = [{**row, key: row[key] / 2} if row["task"] == "training" else row for row in rows]

    found = benchmark.worse_than(rows, better, tolerance=0.25)

    assert benchmark.worse_than(rows, rows, tolerance=0) == []
    assert len(found) == sum(row["task"] == "training" for row in rows)
    assert all("training" in line and f": {key} " in line for line in found)


def test_check_fails_on_a_file_of_better_figures_and_passes_on_one_of_worse(
    benchmark, saved, tmp_path, capsys
):
    rows = json.loads(saved.read_text())["rows"]
    exit_status = []
    for factor in (1e-9, 1e9):
        changed = [
            {**row, **{key: row[key] * factor for key in benchmark.COMPARED}} for row in rows
        ]
        path = tmp_path / "changed.json"
        path.write_text(json.dumps({"rows": changed}))
        arguments = ["--tiny", "--models=SASRecPlus", "--tasks=evaluation", "--repeats=1"]
        exit_status.append(benchmark.main([*arguments, f"--check={path}"]))

    assert exit_status == [1, 0]
    assert "SASRecPlus evaluation : time_over_floor" in capsys.readouterr().out


def test_check_without_a_row_in_common_is_an_error(benchmark, saved):
    rows = json.loads(saved.read_text())["rows"]
    others = [{**row, "model": "Other"} for row in rows]

    with pytest.raises(ValueError, match="none of the measured rows is in the file"):
        benchmark.worse_than(rows, others, tolerance=0.25)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--models=SASRec", "'SASRec' is not one of MMM4Rec, MISSRec, UniSRec, SASRecPlus, HSTU"),
        ("--tasks=serving", "'serving' is not one of training, evaluation"),
        ("--options=torch_compile", "is not KEY=VALUE"),
    ],
)
def test_an_argument_that_is_wrong_is_named(benchmark, capsys, argument, message):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main([argument])

    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
