"""The files of a model give what the model gives, without torch."""

import numpy as np
import onnx
import polars as pl
import pytest
import torch

from recbole_mm.recommend.histories import read_histories
from recbole_mm.recommend.onnx_files import (
    ENCODER,
    ITEMS,
    SCORER,
    feed,
    inverse_rfft,
    open_session,
    write_onnx,
)
from recbole_mm.recommend.ranking import Ranker
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.tools.errors import UserError

HISTORIES = [
    ["i1", "i2", "i3"],
    ["i7"],
    ["i0", "i1", "i2", "i3", "i4", "i5", "i6"],
    ["i4", "i4"],
]


def batch_of(recommender):
    """What the model reads of the histories."""
    rows = [
        {
            "user": str(user),
            "items": items,
            "timestamps": [1.4e9 + 86_400 * (user + 2 * place) for place in range(len(items))],
        }
        for user, items in enumerate(HISTORIES)
    ]
    part = read_histories(pl.DataFrame(rows), recommender.catalog.tokens).part(0, len(rows))
    ranker = Ranker(recommender.model, recommender.catalog, 3, request_time=1.41e9)
    return ranker.batch(part, np.arange(len(rows)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MMM4Rec-time", {"use_item_id": True, "n_layers": 1}),
        ("MMM4Rec-time", {"causal_time": True, "modalities": ["text"]}),
        ("MMM4Rec", {"modalities": ["text"]}),
        ("MISSRec", {"use_item_id": True, "causal": True}),
        ("MISSRec", {"seq_mm_fusion": "contextual", "item_mm_fusion": "dynamic_instance"}),
        ("SASRecPlus", {}),
        ("HSTU", {}),
    ],
)
def test_onnxruntime_scores_as_torch_does(name, settings, trained, tmp_path):
    run = trained(name, **settings)
    recommender = Recommender.from_pretrained(run.result.checkpoint, device="cpu")
    model = recommender.model
    batch = batch_of(recommender)
    with torch.no_grad():
        expected = model.full_sort_predict(batch)[:, 1:].numpy()

    folder = tmp_path / "onnx"
    write_onnx(folder, model, recommender.catalog)

    with np.load(folder / ITEMS) as file:
        arrays = dict(file)
    arrays |= {
        "item_seq": batch[model.ITEM_SEQ].numpy(),
        "length": batch[model.ITEM_SEQ_LEN].numpy(),
        "times": batch[model.TIME_SEQ].numpy(),
        "request_time": batch[model.TIME].numpy(),
    }
    encoder, scorer = open_session(folder / ENCODER), open_session(folder / SCORER)
    assert [value.name for value in encoder.get_outputs()] in (["user"], ["user", "added"])
    user, *added = encoder.run(None, feed(encoder, arrays))
    (score,) = scorer.run(None, feed(scorer, {**arrays, "user": user}))
    if added:
        np.add.at(score, (np.arange(len(score))[:, None], arrays["item_seq"]), added[0])
    np.testing.assert_allclose(score[:, 1:], expected, rtol=0, atol=2e-5)
    assert arrays["recommendable"].tolist() == [False] + [True] * 12
    for file in (ENCODER, SCORER):
        assert b".py" not in (folder / file).read_bytes(), "a path of this machine"
        nodes = onnx.load(folder / file).graph.node
        inverse = [a for node in nodes for a in node.attribute if a.name == "inverse" and a.i]
        assert not inverse, "not read by onnxruntime 1.23"


@pytest.mark.parametrize("n", [None, 1, 2, 5, 8, 9])
@pytest.mark.parametrize("norm", [None, "backward", "ortho", "forward"])
@pytest.mark.parametrize("dim", [-1, 1])
def test_the_inverse_transform_as_products_is_that_of_torch(n, norm, dim):
    spectrum = torch.randn(2, 5, 5, dtype=torch.complex128)

    result = inverse_rfft(spectrum, n, dim, norm)

    torch.testing.assert_close(result, torch.fft.irfft(spectrum, n=n, dim=dim, norm=norm))


def test_a_model_that_cannot_be_exported_is_named(trained, tmp_path, monkeypatch):
    run = trained("UniSRec")
    recommender = Recommender.from_pretrained(run.result.checkpoint, device="cpu")

    def encode(batch, items, _):
        return items[: int(batch["item_length"].sum())]

    monkeypatch.setattr(recommender.model, "encode", encode)
    with pytest.raises(UserError, match="encoder.onnx: torch cannot export the model"):
        write_onnx(tmp_path / "onnx", recommender.model, recommender.catalog)
