"""What needs no extra works where none is installed."""

import subprocess
import sys

import pytest

EXTRAS = (
    "pyarrow", "transformers", "matplotlib", "jinja2", "hyperopt", "optuna", "ray", "fastexcel", "onnx", "onnxruntime", "faiss",
    "gradio", "wandb", "mlflow", "trackio", "accelerate", "datasets", "peft",
)  # fmt: skip

PROGRAM = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path

find = PathFinder.find_spec

def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {blocked!r} else find(name, path, target)

PathFinder.find_spec = staticmethod(find_spec)
from recbole_mm.cli import main

for command in {commands!r}:
    assert main(command) == 0, command
(checkpoint,) = Path("saved").glob("*.pth")
assert main(["recommend", f"--model={{checkpoint}}", "--k=3", "--output=top.csv"]) == 0
"""
COMMANDS = [
    ["prepare", "Shop"],
    ["inspect", "Shop"],
    ["--model=UniSRec", "--dataset=Shop", "--hidden_size=8", "--inner_size=8", "--n_heads=2",
     "--n_experts=2", "--epochs=1", "--show_progress=False"],
]  # fmt: skip


@pytest.mark.slow
def test_from_a_csv_to_recommendations_without_any_extra(tmp_path):
    rows = ["user,item,timestamp"]
    rows += [
        f"u{u},i{(u + s) % 9},{1_500_000_000 + 86_400 * s}" for u in range(30) for s in range(6)
    ]
    shop = tmp_path / "Shop"
    shop.mkdir()
    (shop / "interactions.csv").write_text("\n".join(rows) + "\n")
    titles = [f'{{"item": "i{i}", "title": "thing number {i} of kind {i % 3}"}}' for i in range(9)]
    (shop / "items.jsonl").write_text("\n".join(titles) + "\n")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(blocked=EXTRAS, commands=COMMANDS)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 users, 9 items" in done.stdout
    assert "nearest by text" in done.stdout
    _, *lists = (tmp_path / "top.csv").read_text().splitlines()
    assert len(lists) == 30 * 3
