"""MMM4Rec: the authors' numbers, options and wrong inputs."""

from pathlib import Path

import pytest
import torch
from parity import RUNNERS, Vectors
from recbole.data import data_preparation
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.model.layers import backend
from recbole_mm.model.layers.backend import PACKAGES, TORCH, choose_kernels
from recbole_mm.model.sequential_recommender.mmm4rec import MMM4Rec

SMALL = {"hidden_size": 16, "head_dim": 8, "d_state": 4, "n_groups": 2, "inner_size": 16}
SMALL["use_time"] = True


def golden_cases():
    golden = Path(__file__).parents[1] / "golden"
    for name in ("mmm4rec_cases", "mmm4rec_layers"):
        for case in Vectors(golden / f"{name}.npz").cases:
            yield golden / f"{name}.npz", case


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("path, case", list(golden_cases()))
def test_it_computes_the_authors_numbers(path, case, dtype):
    report = RUNNERS[path.stem](Vectors(path), case, dtype)

    assert report.holds, report


def build(toy, **settings):
    config = load_config("MMM4Rec", None, (), {**toy, **SMALL, **settings}, None, {})
    train, valid, _ = data_preparation(config, MultiModalDataset(config))
    torch.manual_seed(0)
    return MMM4Rec(config, train._dataset).eval(), next(iter(valid))[0]


def scores(model, batch):
    with torch.no_grad():
        return model.full_sort_predict(batch)


def train_a_little(model, batch):
    optimizer = torch.optim.NAdam(model.train().parameters(), lr=0.01, weight_decay=1e-3)
    for _ in range(20):
        optimizer.zero_grad()
        model.calculate_loss(batch).backward()
        optimizer.step()
    model.eval()


@pytest.mark.parametrize("trained", [False, True])
def test_scores_follow_the_times_and_without_time_they_do_not(toy, trained):
    for use_time, causal_time in ((True, False), (True, True), (False, False)):
        model, batch = build(toy, use_time=use_time, causal_time=causal_time)
        if trained:
            train_a_little(model, batch)
        before = scores(model, batch)
        batch["timestamp_list"] = batch["timestamp_list"] + 86400 * 30 * torch.rand(20).cumsum(0)
        moved = (scores(model, batch) - before).abs().max().item()
        assert (moved > 1e-5) == use_time


def test_all_positions_need_causal_time_and_no_differences_that_hold_the_target(toy):
    with pytest.raises(ValueError, match="use_time: True.*Set causal_time: True"):
        build(toy, use_time=True, loss_positions="all")
    with pytest.raises(ValueError, match="time_input: padded_differences.*Set time_input"):
        build(
            toy,
            use_time=True,
            causal_time=True,
            time_input="padded_differences",
            loss_positions="all",
        )


def test_the_time_of_the_target_is_read_only_with_query_time_request(toy):
    for query_time in ("none", "request"):
        model, batch = build(toy, query_time=query_time)
        before = scores(model, batch)
        batch["timestamp"] = batch["timestamp"] + 86400 * 50
        moved = not torch.equal(scores(model, batch), before)
        assert moved == (query_time == "request")


def test_padded_differences_contain_the_time_of_the_target(toy):
    """As in the release, and why they are not the default."""
    model, batch = build(toy, released=True)
    torch.nn.init.normal_(model.encoder_layers[0].ssd.time_scale.scale_out.weight)
    model.encoder_layers[0].ssd.time_scale.scale_out.bias.data.fill_(2.0)
    before = scores(model, batch)
    batch["timestamp"] = batch["timestamp"] * 0.5
    assert not torch.equal(scores(model, batch), before)


def test_the_time_layers_learn_and_those_of_the_release_do_not(toy):
    def largest_gradient(**settings):
        model, batch = build(toy, **settings)
        model.calculate_loss(batch).backward()
        return {
            name: p.grad.abs().max().item()
            for name, p in model.named_parameters()
            if ".time_scale.scale_" in name and name.endswith("weight")
        }

    assert min(largest_gradient().values()) > 1e-7
    assert max(largest_gradient(released=True).values()) < 1e-9


def test_the_skip_terms_differ(toy):
    (with_dt, batch), (without, _) = (build(toy, ssd_skip=skip) for skip in ("dt_x", "x"))
    without.load_state_dict(with_dt.state_dict())
    assert not torch.allclose(scores(with_dt, batch), scores(without, batch))


def test_a_missing_modality_does_not_lower_the_rank(toy):
    """Of two items with the same text, one has no picture."""
    model, _ = build(toy, use_item_id=False, use_time=False)
    model.feature("text")[3] = model.feature("text")[2]
    model.present("image")[3] = False
    items = model.embed_items()
    text_only = torch.nn.functional.normalize(items.embeddings["text"][3], dim=0)
    assert_close(items.candidates[3], 2 * text_only)
    model.mask_missing = False
    assert not torch.allclose(model.embed_items().candidates[3], 2 * text_only)


def test_an_item_without_any_modality_is_ranked_by_its_id(toy):
    model, batch = build(toy, use_item_id=True)
    for modality in ("text", "image"):
        model.present(modality)[4:6] = False
        torch.nn.init.normal_(model.item_embeddings[modality])
    found = scores(model, batch)
    assert not torch.allclose(found[:, 4], found[:, 5])
    model, batch = build(toy, use_item_id=False)
    for modality in ("text", "image"):
        model.present(modality)[4] = False
    assert (scores(model, batch)[:, 4] == -torch.inf).all()
    assert scores(model, batch)[:, [3, 5]].isfinite().all()


def test_repeated_targets_are_not_negatives(toy):
    model, batch = build(toy, softmax="in_batch")
    batch["item_id"][:] = 5
    assert model.calculate_loss(batch).item() == 0  # the only candidate is the target
    model.candidate_loss.mask_repeated = False
    assert_close(model.calculate_loss(batch).item(), torch.tensor(float(len(batch))).log().item())


def test_the_padding_item_is_a_candidate_with_all_rows_only(toy):
    for first, softmax in enumerate(("all_rows", "full")):
        model, batch = build(toy, softmax=softmax, mask_missing=False)
        logits = scores(model, batch)
        expected = torch.nn.functional.cross_entropy(logits[:, first:], batch["item_id"] - first)
        assert_close(model.calculate_loss(batch), expected)


def test_bad_settings_are_refused(toy):
    with pytest.raises(ValueError, match="head_dim 7"):
        build(toy, head_dim=7)
    with pytest.raises(ValueError, match="'query_time' is 'now'; it must be one of none, request"):
        build(toy, query_time="now")
    with pytest.raises(ValueError, match="'ssd_backend' is 'cuda'; it must be one of auto"):
        build(toy, ssd_backend="cuda")


def test_use_time_needs_timestamps(toy, tmp_path):
    path = tmp_path / "dataset/toy/toy.inter"
    rows = [line.rsplit("\t", 1)[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(rows) + "\n")
    with pytest.raises(
        ValueError, match="use_time is on.*'toy' has no timestamps.*use_time: False"
    ):
        build(toy)
    model, batch = build(toy, use_time=False)
    assert torch.isfinite(scores(model, batch)).all()


def test_a_backend_that_is_not_available_is_refused_with_the_install_command():
    from importlib.util import find_spec

    cpu = torch.device("cpu")
    installed = all(find_spec(name) for name in PACKAGES)
    words = "CUDA only" if installed else r"pip install 'recbole_mm\[gpu\]'"
    with pytest.raises(ValueError, match=words):
        choose_kernels("mamba_ssm", cpu, 20, ())
    assert choose_kernels("auto", cpu, 1000, ()) is TORCH


@pytest.mark.parametrize("spread", [0.02, 0.2])
def test_the_initial_weights_have_the_configured_standard_deviation(toy, spread):
    model, _ = build(toy, hidden_size=64, initializer_range=spread)
    weights = model.encoder_layers[0].ssd.in_proj.weight

    assert weights.std().item() == pytest.approx(spread, rel=0.1)


def test_cached_items_are_updated_with_the_parameters(toy):
    model, batch = build(toy)
    before = scores(model, batch)
    with torch.no_grad():
        model.adapters["text"].weight.add_(0.1)
    assert not torch.equal(scores(model, batch), before)


def test_auto_takes_the_fused_kernels_for_long_histories_only(monkeypatch):
    monkeypatch.setattr(backend, "find_spec", lambda _: "installed")
    cuda = torch.device("cuda")

    assert choose_kernels("auto", cuda, backend.SHORT, (64, 32)) is TORCH
    for name, length in (("auto", backend.SHORT + 1), ("mamba_ssm", 20)):
        kernels = choose_kernels(name, cuda, length, (64, 32))
        assert kernels == (backend.mamba_ssm_scan, backend.fused_causal_conv1d)


def test_torch_convolves_what_the_fused_convolution_does_not_take(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(backend, "find_spec", lambda _: "installed")

    kernels = choose_kernels("mamba_ssm", torch.device("cuda"), 20, (64, 4))

    assert kernels == (backend.mamba_ssm_scan, TORCH.conv)
    assert "convolutions by torch, as 8 does not divide (64, 4)" in caplog.text
