"""The comparison with the authors' vectors takes every setting from their description."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from parity import RUNNERS, Vectors, build_mmm4rec, described_optimizer, mmm4rec_batch
from parity import rename_mmm4rec as renamed

from recbole_mm.tools.errors import UserError

GOLDEN = Path(__file__).parent / "golden"


def run(vectors: Vectors, name: str, case: str, **settings):
    """The report of a case whose description has other settings."""
    described = deepcopy(vectors.cases[case])
    for key, value in settings.items():
        (described["config"] if key in described["config"] else described)[key] = value
    changed = deepcopy(vectors)
    changed.cases = {case: described}
    return RUNNERS[name](changed, case, torch.float64)


@pytest.mark.parametrize(
    "text, learner, learning_rate, weight_decay",
    [
        ("NAdam(lr=0.001, weight_decay=0.005) L2 form, all parameters", "nadam", 0.001, 0.005),
        ("Adam lr 0.001", "adam", 0.001, 0.0),
        ("SGD(lr=1e-2)", "sgd", 0.01, 0.0),
    ],
)
def test_an_optimizer_is_read_from_its_description(text, learner, learning_rate, weight_decay):
    assert described_optimizer({"optimizer": text, "accumulation_steps": 3}) == {
        "learner": learner,
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "gradient_accumulation_steps": 3,
        "accumulation_mean": False,
    }


OTHER_SETTINGS = [
    ("mmm4rec_cases", "dyn_instance", {"temperature": 0.7}),
    ("mmm4rec_cases", "dyn_instance", {"norm_eps": 1e-3}),
    ("mmm4rec_cases", "dyn_instance", {"n_groups": 2}),
    ("mmm4rec_cases", "dyn_instance", {"in_batch_loss": True}),
    ("mmm4rec_cases", "dyn_instance", {"path": "fallback"}),
    ("mmm4rec_cases", "dyn_instance", {"is_ffn": False}),
    ("mmm4rec_cases", "layers2_g8", {"num_layers": 1}),
    ("mmm4rec_cases", "layers2_g8", {"p2p_residual": True}),
    ("mmm4rec_cases", "train_steps", {"optimizer": "NAdam(lr=0.002, weight_decay=0.005)"}),
    ("mmm4rec_cases", "train_steps", {"optimizer": "NAdam(lr=0.001, weight_decay=0.05)"}),
    ("mmm4rec_cases", "train_steps", {"optimizer": "Adam(lr=0.001, weight_decay=0.005)"}),
    ("mmm4rec_cases", "train_steps", {"accumulation_steps": 1}),
    ("mmm4rec_layers", "g1", {"is_ffn": False}),
    ("mmm4rec_layers", "g1", {"norm_eps": 1e-3}),
    ("mmm4rec_layers", "g1", {"path": "fallback"}),
    ("missrec_cases", "trans_layers4", {"n_heads": 2}),
    ("missrec_cases", "trans_layers4", {"hidden_act": "relu"}),
    ("missrec_cases", "trans_layers4", {"layer_norm_eps": 1e-3}),
    ("missrec_cases", "trans_layers4", {"gamma": 0.5}),
    ("missrec_cases", "pre_itemdrop_dshared_add", {"lambda": 0.5}),
    ("missrec_cases", "pre_itemdrop_dshared_add", {"item_drop_coefficient": 0.0}),
    ("missrec_cases", "train_steps_full", {"optimizer": "Adam lr 0.002"}),
    ("missrec_cases", "train_steps_full", {"frozen": ["position_embedding.weight"]}),
]


@pytest.mark.parametrize("name, case, settings", OTHER_SETTINGS)
def test_the_numbers_of_a_case_are_those_of_its_settings_alone(name, case, settings):
    vectors = Vectors(GOLDEN / f"{name}.npz")

    assert run(vectors, name, case).holds
    try:
        report = run(vectors, name, case, **settings)
    except (RuntimeError, UserError, ValueError):  # parameters do not fit
        return
    assert not report.holds


def test_training_steps_hold_for_another_described_optimizer():
    """Written out with plain torch: one step for each batch, a part of the model frozen."""
    vectors = Vectors(GOLDEN / "mmm4rec_cases.npz")
    described = vectors.cases["train_steps"]
    frozen = "encoder_ssd_layers.0.ssd.in_proj.weight"
    described |= {"optimizer": "Adam lr 0.01", "accumulation_steps": 1, "frozen": [frozen]}
    model, _ = build_mmm4rec(vectors, "train_steps", torch.float64)
    (ours,) = renamed({frozen: torch.zeros(1)})
    optimizer = torch.optim.Adam((p for n, p in model.named_parameters() if n != ours), lr=0.01)
    losses = []
    for step in range(described["micro_batches"]):
        loss = model.calculate_loss(mmm4rec_batch(vectors.section("train_steps", f"in{step}")))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    vectors.arrays["train_steps/out/losses"] = torch.tensor(losses).numpy()
    for name, before in vectors.section("train_steps", "state_after").items():
        for ours in renamed({name: before}):  # none for the fusion_factor of a static fusion
            after = model.state_dict()[ours].view(before.shape)
            vectors.arrays[f"train_steps/state_after/{name}"] = after.numpy()

    report = RUNNERS["mmm4rec_cases"](vectors, "train_steps", torch.float64)

    assert report.holds, report


def test_a_described_float32_error_is_not_exceeded_by_far():
    vectors = Vectors(GOLDEN / "mmm4rec_cases.npz")
    vectors.cases["layers2_g8"]["f32_vs_f64"]["seq_output"] = 1e-9

    report = RUNNERS["mmm4rec_cases"](vectors, "layers2_g8", torch.float32)

    assert not report.holds
