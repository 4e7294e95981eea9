"""Recommend from the files of ``recbole-mm export CHECKPOINT FOLDER --onnx``, with numpy and onnxruntime.

    python serve_onnx.py FOLDER ITEM ITEM ...

prints the ten best next items after these, in their order. Neither torch nor recbole_mm is needed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime


class Server:
    def __init__(self, folder):
        folder = Path(folder)
        self.tokens = json.loads((folder / "items.json").read_text())["item"]
        self.row = {token: row for row, token in enumerate(self.tokens) if row > 0}
        self.length = json.loads((folder / "onnx" / "serving.json").read_text())["length"]
        self.items = dict(np.load(folder / "onnx" / "items.npz"))
        self.encoder, self.scorer = (
            onnxruntime.InferenceSession(folder / "onnx" / f"{name}.onnx")
            for name in ("encoder", "scorer")
        )

    def run(self, session, **arrays):
        known = {**self.items, **arrays}
        return session.run(None, {i.name: known[i.name] for i in session.get_inputs()})

    def recommend(self, history, times=None, k=10):
        """Items and scores after a history of item ids and, for a model with time, unix seconds."""
        known = [place for place, item in enumerate(history) if item in self.row][-self.length :]
        n = len(known)
        if n == 0:
            raise ValueError(
                f"the catalog has none of these items; it has items like {self.tokens[1]}"
            )
        item_seq, seconds = np.zeros((1, self.length), np.int64), np.zeros((1, self.length))
        item_seq[0, :n] = [self.row[history[place]] for place in known]
        if times is not None:
            seconds[0, :n] = [times[place] for place in known]
        batch = {"item_seq": item_seq, "length": np.array([n]), "times": seconds}
        user, *added = self.run(self.encoder, **batch, request_time=seconds[:, n - 1])
        (scores,) = self.run(self.scorer, user=user)[0]
        if added:  # the learned propensity to repeat items
            np.add.at(scores, item_seq[0], added[0][0])
        scores[~self.items["recommendable"]] = -np.inf
        best = np.argsort(-scores)[:k]
        return [(self.tokens[row], float(scores[row])) for row in best if scores[row] > -np.inf]


def main(folder, *history):
    try:
        best = Server(folder).recommend(history)
    except FileNotFoundError as error:
        print(f"{error.filename} is missing: export with --onnx", file=sys.stderr)
        return 2
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for item, score in best:
        print(f"{score:10.4f}  {item}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(*sys.argv[1:]))
