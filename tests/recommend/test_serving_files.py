"""Export with ONNX files and an index: what the command reports, and a server without torch."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from recbole_mm.cli import main
from recbole_mm.recommend.onnx_files import ServedModel
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.recommend.search_index import Search
from recbole_mm.transfer.bundle import read_bundle

HISTORY = ["i1", "i2", "i3"]

WITHOUT_TORCH = """
import runpy
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "recbole", "recbole_mm", "safetensors", "polars"}:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def exported(trained, tmp_path):
    """A function that trains a model and exports it by the command: its folder."""

    def export(name, *options, **settings):
        checkpoint = trained(name, **settings).result.checkpoint
        assert main(["export", checkpoint, str(tmp_path / "b"), "--no-test", *options]) == 0
        return tmp_path / "b"

    return export


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [("UniSRec-repeats", {}), ("MISSRec", {"item_mm_fusion": "dynamic_shared"})],
)
def test_a_server_without_torch_recommends_what_the_bundle_does(
    name, settings, exported, repository, capsys
):
    folder = exported(name, "--index=exact", **settings)
    report = capsys.readouterr().out
    expected = Recommender.from_pretrained(folder).recommend(
        pl.DataFrame({"user": ["u"], "items": [HISTORY]}), k=10
    )

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TORCH,
            repository / "examples/serve_onnx.py",
            folder,
            *HISTORY,
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    rows = [line.split() for line in done.stdout.splitlines()]
    assert [item for _, item in rows] == expected["item"].to_list()
    np.testing.assert_allclose([float(s) for s, _ in rows], expected["score"].to_numpy(), atol=1e-3)
    assert "the same 10 best items for 40 of 40 histories" in report
    assert "recall@10 1.0000" in report
    assert read_bundle(folder).config["model"] == name.partition("-")[0]
    described = json.loads((folder / "onnx" / "serving.json").read_text())
    assert set(described["files"]) == {
        "encoder.onnx", "scorer.onnx", "items.npz", "index.faiss", "index_items.npy"
    }  # fmt: skip


@pytest.mark.slow
def test_an_index_finds_items_by_all_their_modalities_and_never_removed_ones(
    exported, tmp_path, capsys
):
    (tmp_path / "gone.txt").write_text("i4\n")

    folder = exported("MISSRec", "--index=hnsw", f"--remove-items={tmp_path / 'gone.txt'}")

    served = ServedModel(folder / "onnx")
    search = Search(folder / "onnx", served)
    items = json.loads((folder / "items.json").read_text())["item"]
    gone = items.index("i4")
    assert len(search.items) == 2 * 11 and gone not in search.items
    report = capsys.readouterr().out
    assert report.startswith("onnx/encoder.onnx: writing the graph of the users, up to a minute\n")
    assert "index: 22 vectors, " in report and "\nnot in the index: 1 item removed\n" in report
    user = np.random.default_rng(0).normal(size=(1, 8)).astype(np.float32)
    shown = np.array([row for row in range(1, 13) if row != gone])
    order = shown[np.argsort(-served.score(user)[0, shown])]
    assert search.best(user, 5).tolist() == order[:5].tolist()


@pytest.mark.slow
def test_a_model_that_is_trained_on_all_events_is_served_without_torch(exported, capsys):
    folder = exported("UniSRec", "--index=exact", eval_args={"split": {"RS": [1, 0, 0]}})

    assert (folder / "onnx" / "encoder.onnx").is_file()
    assert "the same 10 best items for 40 of 40 histories" in capsys.readouterr().out


@pytest.mark.parametrize("history", [[], ["ghost", "nobody"]])
def test_the_server_without_torch_names_an_item_that_it_knows(history, exported, repository):
    folder = exported("UniSRec", "--onnx")
    items = json.loads((folder / "items.json").read_text())["item"]

    done = subprocess.run(
        [sys.executable, repository / "examples/serve_onnx.py", folder, *history],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    expected = f"the catalog has none of these items; it has items like {items[1]}\n"
    assert done.stderr == expected if history else "serve_onnx.py FOLDER ITEM" in done.stderr


def test_export_names_the_command_that_installs_onnx(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "model.pth").write_bytes(b"")

    assert main(["export", str(tmp_path / "model.pth"), "b", "--onnx"]) == 2

    assert "--onnx needs onnxruntime: pip install 'recbole_mm[onnx]'" in capsys.readouterr().err
