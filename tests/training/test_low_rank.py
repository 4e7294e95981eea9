"""Fine-tuning by changes of low rank is LoRA, and leaves a plain model."""

from types import SimpleNamespace

import pytest
import torch
from tiny import TINY_MMM4REC
from torch import nn
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run, run
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.torch_files import read_torch
from recbole_mm.training.low_rank import LowRankSteps, with_factors

RANK = 2


class Encoder(nn.Module):
    encoder_parameters = ("encoder.*",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.encoder(x)))


def steps_of(model):
    groups = [{"params": list(model.parameters()), "lr": 0.05, "weight_decay": 0.01}]
    groups, factors = with_factors(model, groups, RANK, seed=0)
    return LowRankSteps(torch.optim.AdamW(groups), factors), factors


def take(model, optimizer, batches):
    for batch in batches:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


def test_it_is_lora():
    """The same steps as of a model whose matrix is computed from its factors by autograd."""
    model, reference = Encoder(), Encoder()
    optimizer, ((weight, down, up),) = steps_of(model)
    start = weight.detach().clone()
    a, b = (nn.Parameter(factor.detach().clone()) for factor in (down, up))
    others = [p for name, p in reference.named_parameters() if name != "encoder.weight"]
    plain = torch.optim.AdamW([a, b, *others], lr=0.05, weight_decay=0.01)

    def forward(x):
        hidden = torch.tanh(x @ (start + b @ a).T + reference.encoder.bias)
        return reference.head(hidden)

    for batch in torch.randn(8, 4, 6):
        take(model, optimizer, [batch])
        plain.zero_grad()
        forward(batch).square().mean().backward()
        plain.step()

    assert_close(model.encoder.weight, start + b @ a)
    assert_close(model.head.weight, reference.head.weight)
    assert torch.linalg.matrix_rank((weight - start).double(), rtol=1e-5) == RANK


def test_its_state_resumes_with_the_next_step():
    batches = torch.randn(6, 4, 6)
    whole, first = Encoder(), Encoder()
    take(whole, steps_of(whole)[0], batches)
    optimizer, _ = steps_of(first)
    take(first, optimizer, batches[:3])
    again = Encoder()
    again.load_state_dict(first.state_dict())
    resumed, _ = steps_of(again)
    resumed.load_state_dict(optimizer.state_dict())
    take(again, resumed, batches[3:])

    assert_close(again.state_dict(), whole.state_dict())


def test_who_waits_for_a_step_sees_the_matrices_after_it():
    model = Encoder()
    optimizer, ((weight, down, up),) = steps_of(model)
    start, seen = weight.detach().clone(), []
    optimizer.register_step_post_hook(lambda _: seen.append(weight.detach() - start - up @ down))
    take(model, optimizer, torch.randn(3, 4, 6))

    assert len(seen) == 3
    for difference in seen:
        assert_close(difference, torch.zeros_like(difference))


def test_a_frozen_encoder_has_no_matrix_to_change():
    model = SimpleNamespace(encoder_parameters=("encoder.*",), named_parameters=list)
    with pytest.raises(UserError, match="lora_rank: 2: no trained matrix of the encoder"):
        with_factors(model, [], RANK, seed=0)


def test_fine_tuning_changes_the_encoder_by_low_rank_alone(toy):
    settings = {**toy, **TINY_MMM4REC, "epochs": 3, "ema_epochs": 0}
    first = run("MMM4Rec", config_dict=settings)
    tuned = run(
        "MMM4Rec",
        config_dict={
            **settings,
            "pre_model_path": first.checkpoint,
            "lora_rank": RANK,
            "validate_start": False,  # the start may be the best
        },
    )

    before, after = (read_torch(each.checkpoint)["state_dict"] for each in (first, tuned))
    changes = {name: after[name] - before[name] for name in before}
    matrices = {n: c for n, c in changes.items() if "_layers" in n and n.endswith("proj.weight")}
    assert matrices
    for change in matrices.values():
        assert change.abs().max() > 0
        assert torch.linalg.matrix_rank(change.double(), rtol=1e-2) <= RANK
    assert tuned.test_result
    assert tuned.n_parameters < first.n_parameters


@pytest.fixture
def started(toy):
    """Settings of a run that starts from a trained model."""
    settings = {**toy, **TINY_MMM4REC, "epochs": 1}
    first = run("MMM4Rec", config_dict=settings)
    return {**settings, "pre_model_path": first.checkpoint, "lora_rank": RANK}


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps 2"),
        ({"freeze": ["*_layers.*"]}, "no trained matrix"),
        ({"pre_model_path": None}, "without pre_model_path"),
        ({"train_stage": "pretrain", "use_item_id": False}, "in a stage of pre-training"),
    ],
)
def test_what_does_not_work_with_it_is_refused(settings, message, started):
    with pytest.raises(UserError, match=f"lora_rank.*{message}"):
        run("MMM4Rec", config_dict={**started, **settings})


def test_what_the_optimizer_refuses_is_known_before_the_first_stage(started):
    with pytest.raises(UserError, match="lora_rank: 100: no trained matrix"):
        Run.check(load_config("MMM4Rec", config_dict={**started, "lora_rank": 100}))


def test_sparse_updates_do_not_work_with_it(started):
    settings = {"softmax": "sampled", "sparse_id_updates": True}
    with pytest.raises(UserError, match="sparse_id_updates does not work with lora_rank"):
        run("MMM4Rec", config_dict={**started, **settings})


def test_recboles_own_models_refuse_it(toy):
    with pytest.raises(UserError, match="lora_rank: only"):
        run("SASRec", config_dict={**toy, "epochs": 1, "lora_rank": RANK})


def test_a_negative_rank_is_refused(toy):
    with pytest.raises(ValueError, match="lora_rank"):
        load_config("MMM4Rec", config_dict={**toy, "lora_rank": -1})
