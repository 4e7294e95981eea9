"""A GPU computes what a CPU does, faster."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernels import outputs_and_gradients
from recbole.data import data_preparation
from recbole.utils import get_model
from tiny import TINY, TINY_HSTU, TINY_MMM4REC
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.model.layers.backend import PACKAGES, fused_causal_conv1d, mamba_ssm_scan
from recbole_mm.model.layers.conv import causal_conv1d
from recbole_mm.model.layers.ssd import ssd
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import run
from recbole_mm.training.cuda_graphs import GraphedLoss
from recbole_mm.training.trainer import MultiModalTrainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NO_DROPOUT = dict.fromkeys(
    ("hidden_dropout_prob", "embedding_dropout_prob", "time_dropout_prob", "attn_dropout_prob",
     "adapter_dropout_prob", "item_drop_ratio"), 0.0,
)  # fmt: skip
MODALITIES = {"modalities": ["text", "image"]}
SMALL = {
    "MMM4Rec": TINY_MMM4REC,
    "MISSRec": {**TINY, "n_heads": 2},
    "UniSRec": {**TINY, "n_heads": 2, "n_experts": 2},
    "SASRecPlus": {**TINY, "n_heads": 2, **MODALITIES},
    "HSTU": {**TINY_HSTU, "n_heads": 2, **MODALITIES},
}
STAGES = {
    "last": {"loss_positions": "last"},
    "all": {"loss_positions": "all"},
    "pretrain": {"train_stage": "pretrain", "softmax": "in_batch", "use_item_id": False},
    "sampled": {"softmax": "sampled", "n_negatives": 4, "use_item_id": True},
    "additions": {"repeat_propensity": "recency", "neighbor_scores": True, "neighbor_dimension": 4},
}
OF_ITS_OWN = {("MISSRec", "all"): {"causal": True}}
BACKENDS = ["torch", "mamba_ssm"]
WIDE = {"hidden_size": 64, "head_dim": 32, "d_state": 16, "n_groups": 2, "inner_size": 32}
"""Sizes that the fused kernels take."""


def needs_fused_kernels():
    for name in PACKAGES:
        pytest.importorskip(name, reason=f"needs {name}")


def prepared(name, toy, **settings):
    known = load_config(name, config_dict=toy)
    quiet = {key: value for key, value in NO_DROPOUT.items() if key in known}
    config = load_config(name, config_dict={**toy, **SMALL[name], **quiet, **settings})
    loaders = data_preparation(config, MultiModalDataset(config))
    torch.manual_seed(0)
    model = get_model(name)(config, loaders[0]._dataset).to(config["device"])
    return config, model, loaders


def test_every_model_is_tested_here():
    assert set(SMALL) == set(MODELS)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", SMALL)
def test_scores_loss_and_gradients_are_those_of_a_cpu(name, stage, toy):
    if name == "MISSRec" and stage == "pretrain":
        pytest.skip("its two views of a history are random")
    results = []
    settings = STAGES[stage] | OF_ITS_OWN.get((name, stage), {})
    for use_gpu in (False, True):
        _, model, (train, valid, _) = prepared(name, toy, use_gpu=use_gpu, **settings)
        assert (next(model.parameters()).device.type == "cuda") == use_gpu
        if use_gpu:
            model.load_state_dict(results[0]["state"])
        batch = next(iter(valid))[0].to(model.device)
        model.on_epoch_start(0)
        with torch.no_grad():
            scores = model.eval().full_sort_predict(batch).cpu()
        found = {"state": {k: v.cpu() for k, v in model.state_dict().items()}, "scores": scores}
        if stage != "sampled":  # its negatives are random; so is the noise of UniSRec in training
            loss = model.calculate_loss(next(iter(train)).to(model.device))
            loss.backward()
            found["loss"] = loss.detach().cpu()
            found["gradients"] = {
                n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None
            }
        results.append(found)

    on_cpu, on_gpu = results
    del on_cpu["state"], on_gpu["state"]
    # the attention of torch that SASRecPlus calls has the 10 bits of TF32 on a GPU
    assert_close(on_gpu, on_cpu, atol=1e-3 if name == "SASRecPlus" else 1e-5, rtol=5e-3)


@pytest.mark.parametrize("l", [1, 3, 20, 64, 65, 200])
def test_the_fused_kernels_compute_the_torch_ones(l):
    needs_fused_kernels()
    torch.manual_seed(0)
    b, h, p, g, n = 4, 8, 64, 4, 64

    def draw(*shape):
        return torch.randn(*shape, device="cuda")

    scan = [draw(b, l, h, p), draw(b, l, h).sigmoid(), -draw(h).exp(), draw(b, l, g, n)]
    scan += [draw(b, l, g, n), draw(b, l, h)]
    conv = [draw(b, l, h * p), draw(h * p, 4), draw(h * p), draw(h * p)]
    for fused, ours, given in (
        (mamba_ssm_scan, ssd, scan),
        (fused_causal_conv1d, causal_conv1d, conv),
    ):
        found, expected = (
            outputs_and_gradients(f, x)
            for f, x in ((fused, given), (ours, [x.double() for x in given]))
        )
        for y, exact in zip(found, expected, strict=True):
            # their products have the 10 bits of TF32
            assert_close(y.double(), exact, atol=5e-3 * exact.abs().max().item(), rtol=0)


def test_a_model_of_the_fused_kernels_learns_what_one_of_torch_does(toy):
    needs_fused_kernels()
    found = []
    for backend in BACKENDS:
        _, model, (train, valid, _) = prepared("MMM4Rec", toy, ssd_backend=backend, **WIDE)
        optimizer = torch.optim.Adam(model.train().parameters(), lr=1e-3)
        for batch in train:
            optimizer.zero_grad()
            model.calculate_loss(batch.to("cuda")).backward()
            optimizer.step()
        with torch.no_grad():
            found.append(model.eval().full_sort_predict(next(iter(valid))[0].to("cuda")))
    assert_close(*found, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("name", [*SMALL, "SASRec", "TransitionGraph", "HistoryKNN", "Popularity"])
def test_what_a_gpu_trained_recommends_the_same_on_a_cpu(name, toy, tmp_path):
    settings = {**toy, **SMALL.get(name, {"epochs": 1, "show_progress": False})}
    result = run(name, config_dict={**settings, "checkpoint_dir": str(tmp_path / "saved")})

    assert result.test_result
    if name not in SMALL:
        return
    (path,) = (tmp_path / "saved").glob("*.pth")
    lists = [
        Recommender.from_pretrained(path, device=device).recommend(k=3).sort("user", "rank")
        for device in ("cuda", "cpu")
    ]
    assert_close(*(torch.tensor(each["score"].to_list()) for each in lists), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"enable_amp": True}, {"matmul_precision": "high"}], ids=["amp", "tf32"]
)
@pytest.mark.parametrize("name", SMALL)
def test_it_trains_with_lower_precision(name, settings, toy):
    result = run(name, config_dict={**toy, **SMALL[name], **settings})

    assert result.test_result


def trained(name, toy, **settings):
    """The loss of every batch, and the parameters after a few epochs."""
    config, model, (train, *_) = prepared(name, toy, learning_rate=0.01, **settings)
    trainer, losses = MultiModalTrainer(config, model), []
    for epoch in range(3):
        losses.append(trainer._train_epoch(train, epoch))
    return losses, {name: value.detach().cpu() for name, value in model.named_parameters()}


@pytest.mark.parametrize("name", ["MMM4Rec", "SASRecPlus", "HSTU"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("more", [{}, {"enable_amp": True}], ids=["float32", "amp"])
def test_cuda_graphs_train_the_same_parameters(name, backend, more, toy):
    settings = {
        "loss_positions": "last",
        "train_batch_size": 48,
        **more,
    }  # the last batch is smaller
    if name == "MMM4Rec":
        settings |= {"ssd_backend": backend, **WIDE}
    elif backend == "mamba_ssm":
        pytest.skip("it has no state space layers")
    if backend == "mamba_ssm":
        needs_fused_kernels()
    graphed, eager = (trained(name, toy, cuda_graphs=on, **settings) for on in (True, False))

    tolerance = 2e-2 if more or backend == "mamba_ssm" else 1e-4
    assert_close(graphed, eager, atol=tolerance, rtol=tolerance)


def test_dropout_is_drawn_again_at_every_replay(toy):
    _, model, (train, *_) = prepared(
        "MMM4Rec", toy, cuda_graphs=True, ssd_backend="torch", hidden_dropout_prob=0.5
    )
    loss_of, batch = GraphedLoss(model.train()), next(iter(train)).to("cuda")

    assert len({loss_of(batch).item() for _ in range(4)}) == 4


@pytest.mark.parametrize("name, settings", [("MMM4Rec", {"softmax": "sampled"}), ("MISSRec", {})])
def test_what_cannot_be_recorded_trains_without(name, settings, toy, caplog):
    _, model, (train, *_) = prepared(name, toy, cuda_graphs=True, **settings)
    model.train().on_epoch_start(0)

    loss = GraphedLoss(model)(next(iter(train)).to("cuda"))

    assert loss.isfinite()
    assert "is not recorded" in caplog.text


def test_recording_draws_no_random_numbers(toy):
    """So that an interrupted run, which records again, resumes as if nothing had been."""
    _, model, (train, *_) = prepared("MMM4Rec", toy, cuda_graphs=True, hidden_dropout_prob=0.5)
    batch, losses = next(iter(train)).to("cuda"), []
    for _ in range(2):
        torch.manual_seed(0)
        loss_of = GraphedLoss(model.train())
        losses.append([loss_of(batch).item() for _ in range(3)])

    assert losses[0] == losses[1]
    loss_of = GraphedLoss(model)
    state = torch.cuda.get_rng_state()
    loss_of._record(dict(batch.interaction))
    assert torch.equal(torch.cuda.get_rng_state(), state)


def test_a_run_on_the_cpu_leaves_the_gpu_to_the_next_one(toy):
    for use_gpu in (True, False, True):
        config = load_config("MMM4Rec", config_dict={**toy, **TINY_MMM4REC, "use_gpu": use_gpu})
        assert config["device"].type == ("cuda" if use_gpu else "cpu")
        assert torch.cuda.device_count() > 0


def test_one_process_of_torchrun_trains(toy, repository):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "--standalone"]
    settings = {**toy, **TINY_MMM4REC}
    arguments = [f"--{key}={value}" for key, value in settings.items()]
    done = subprocess.run(
        [*command, str(repository / "run_recbole_mm.py"), "--model=MMM4Rec", *arguments],
        env={**os.environ, "PYTHONPATH": f"{repository}:{os.environ.get('PYTHONPATH', '')}"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]


def test_an_encoder_in_bfloat16_gives_nearly_the_same_vectors(tmp_path):
    pytest.importorskip("sentence_transformers", reason="needs recbole_mm[features]")
    from small_encoders import save_text_encoder

    from recbole_mm.prepare.open_encoder import open_encoder

    words = ["red", "green", "blue", "toy", "car"]
    folder = save_text_encoder(Path(tmp_path / "encoder"), words)
    texts = [" ".join(words[: n + 1]) for n in range(5)]
    narrow, wide = (
        torch.as_tensor(open_encoder(str(folder), device=device).texts(texts)[0])
        for device in ("cuda", "cpu")
    )

    assert torch.cosine_similarity(narrow, wide).min() > 0.999
