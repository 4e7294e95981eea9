"""Workers of ray give the lists of one process, and their failures are ours."""

import os
import sys

import polars as pl
import pytest

from recbole_mm.cli import main
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.tools.errors import RunFailed, UserError


def recommend(*options):
    return main(["recommend", "--no-progress", *map(str, options)])


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="--tool=ray needs recbole_mm[tune]")
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        object_store_memory=2**27,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="CRITICAL",
    )
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_workers_of_ray_give_the_lists_of_one_process(trained, tmp_path, capsys):
    checkpoint = trained("MMM4Rec-time").result.checkpoint
    events = [f"u{i},{item},{100 + i}" for i in range(25) for item in ("i3", f"i{i % 12}", "other")]
    (tmp_path / "today.csv").write_text("\n".join(["user,item,timestamp", *events, "eve,other,9"]))
    (tmp_path / "users.txt").write_text("u7\nstranger\neve\nu3\nu21\nu0")
    (tmp_path / "gone.txt").write_text("i5\n")
    (tmp_path / "own.csv").write_text(
        "user,items\n" + "".join(f"{u},i1 i2 i4 i5\n" for u in ("u7", "stranger", "eve", "u3"))
        + "u21,i8\nu0,i0 i9\n"
    )  # fmt: skip
    requests = {
        "data set": [],
        "everything": [
            f"--histories={tmp_path}/today.csv",
            f"--users={tmp_path}/users.txt",
            f"--remove-items={tmp_path}/gone.txt",
            f"--candidates={tmp_path}/own.csv",
            "--k=3",
            "--filter-seen",
            "--result-columns=user=customer",
        ],
    }
    for name, options in requests.items():
        tables, printed = [], []
        for tool in ([], ["--tool=ray", "--jobs=2"]):
            output = tmp_path / f"{name} {len(tool)}.parquet"
            assert recommend(f"--model={checkpoint}", f"--output={output}", *options, *tool) == 0
            tables.append(pl.read_parquet(output))
            printed.append(capsys.readouterr().out.replace(str(output), ""))

        alone, by_ray = tables
        assert len(alone) > 0
        assert by_ray.drop("score").equals(alone.drop("score")), name
        assert by_ray["score"].to_list() == pytest.approx(alone["score"].to_list(), rel=1e-4)
        assert printed[0] == printed[1]
    assert alone["customer"].unique(maintain_order=True).to_list() == [
        "u7", "stranger", "eve", "u3", "u21", "u0",
    ]  # fmt: skip
    assert not list(tmp_path.glob(".*.partial"))

    too_many = ["--tool=ray", "--jobs=3", f"--output={tmp_path}/top.csv"]
    assert recommend(f"--model={checkpoint}", *too_many) == 2
    assert "--jobs=3: the ray cluster has 2 cores" in capsys.readouterr().err


@pytest.mark.slow
def test_a_failure_of_a_worker_is_ours_and_finished_parts_are_kept(trained, cluster, tmp_path):
    from recbole_mm.recommend.ray_workers import on_ray

    checkpoint = str(trained("UniSRec").result.checkpoint)
    recommender = Recommender.from_pretrained(checkpoint, device="cpu")
    output = tmp_path / "top.parquet"

    def refuse():
        raise UserError("the model is gone")

    def die():
        os._exit(1)

    for fail, error, message in (
        (refuse, UserError, "^the model is gone$"),
        (die, RunFailed, "^a ray worker died .*the same command resumes"),
    ):
        with on_ray(fail, jobs=1) as workers, pytest.raises(error, match=message):
            recommender.write(output, workers=workers)
        assert not output.exists()
        assert cluster.is_initialized()

    with on_ray(lambda: Recommender.from_pretrained(checkpoint, device="cpu"), jobs=2) as workers:
        parts = workers.compute

        def interrupted(answer, numbers, progress):
            yield next(parts(answer, numbers, progress))
            raise KeyboardInterrupt

        workers.compute = interrupted
        with pytest.raises(KeyboardInterrupt):
            recommender.write(output, workers=workers)
        assert not output.exists()
        asked = []
        workers.compute = lambda *given: (asked.extend(given[1]), parts(*given))[1]
        recommender.write(output, workers=workers)

    assert len(asked) == 1  # the other one of two parts was kept
    expected = recommender.recommend()
    assert pl.read_parquet(output).drop("score").equals(expected.drop("score"))


@pytest.mark.parametrize(
    ("n_workers", "gpus", "share"), [(2, 0, 0), (1, 8, 1), (2, 2, 1), (3, 2, 0.5), (7, 3, 1 / 3)]
)
def test_every_worker_has_a_place_on_the_gpus(n_workers, gpus, share):
    pytest.importorskip("ray", reason="--tool=ray needs recbole_mm[tune]")
    from recbole_mm.run.ray_cluster import gpu_share

    assert gpu_share(n_workers, gpus) == share


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jobs=2"], "--jobs needs --tool=ray"),
        (["--tool=ray", "--jobs=0"], "--jobs=0: give a number >= 1"),
        (["--tool=ray", "--device=cpu"], "--device=cpu: omit it with --tool=ray"),
        (["--tool=ray"], "needs ray: pip install 'recbole_mm[tune]'"),
    ],
)
def test_what_ray_cannot_do_is_refused_before_anything_is_read(
    options, message, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "ray", None)

    assert recommend("--model=no.pth", "--output=top.csv", *options) == 2

    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_ray_is_not_started_by_every_process_of_torchrun(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")

    assert recommend("--model=no.pth", "--output=top.csv", "--tool=ray") == 2

    assert "run it without torchrun" in capsys.readouterr().err
