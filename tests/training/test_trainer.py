import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from recbole_mm.tools.precision import matmul_precision
from recbole_mm.training.optimizers import OPTIMIZERS, AccumulatedSteps, fused_on
from recbole_mm.training.ranking import rank_by_counting
from recbole_mm.training.recorded import LossIsNaN


def two_models():
    torch.manual_seed(0)
    first = nn.Linear(3, 1)
    second = nn.Linear(3, 1)
    second.load_state_dict(first.state_dict())
    return first, second


@pytest.mark.parametrize("mean", [True, False])
def test_accumulated_batches_take_the_step_of_their_union(mean):
    single, many = two_models()
    batches = torch.randn(5, 4, 3)
    reference = torch.optim.SGD(single.parameters(), lr=0.1)
    accumulated = AccumulatedSteps(torch.optim.SGD(many.parameters(), lr=0.1), 3, mean)
    for group in (batches[:3], batches[3:]):  # the last group is shorter
        reference.zero_grad()
        losses = torch.stack([single(batch).mean() for batch in group])
        (losses.mean() if mean else losses.sum()).backward()
        reference.step()
    for batch in batches:
        accumulated.zero_grad()
        many(batch).mean().backward()
        accumulated.step()
    accumulated.flush()
    accumulated.flush()  # nothing is due any more
    assert_close(many.weight, single.weight)


@pytest.mark.parametrize("learner", OPTIMIZERS)
def test_an_optimizer_takes_the_same_steps_fused_and_resumes_from_either_state(learner):
    ours, reference = two_models()
    optimizers = [
        OPTIMIZERS[learner](module.parameters(), lr=0.1, weight_decay=0.01, **fused)
        for module, fused in ((ours, fused_on("cpu", learner)), (reference, {}))
    ]
    for step, batch in enumerate(torch.randn(6, 4, 3)):
        for module, optimizer in zip((ours, reference), optimizers, strict=True):
            optimizer.zero_grad()
            module(batch).square().mean().backward()
            optimizer.step()
        if step == 2:  # the state of either is that of the other
            states = [optimizer.state_dict()["state"] for optimizer in optimizers]
            for optimizer, state in zip(optimizers, reversed(states), strict=True):
                optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    assert_close(ours.weight, reference.weight)


@pytest.mark.parametrize("lower", [{"enable_amp": True}, {"matmul_precision": "medium"}])
def test_losses_with_lower_precision_are_those_without_within_two_percent(lower, toy):
    without_dropout = {"embedding_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
    losses = []
    for precision in ({}, lower):
        torch.manual_seed(0)
        trainer, train, valid, _ = trained(toy, **without_dropout, **precision, epochs=2)
        trainer.fit(train, valid, saved=False)
        losses.append(trainer.train_loss_dict)

    exact, mixed = losses
    assert mixed == pytest.approx(exact, rel=0.02)
    assert exact != mixed or "matmul_precision" in lower  # which not every processor has


@pytest.mark.parametrize("enable_scaler, dtype", [(False, torch.bfloat16), (True, torch.float16)])
def test_on_a_gpu_mixed_precision_has_the_range_of_float32_unless_losses_are_scaled(
    enable_scaler, dtype, toy, monkeypatch
):
    trainer, train, *_ = trained(toy)
    trainer.enable_scaler = enable_scaler  # RecBole's: False without a GPU
    seen = []
    monkeypatch.setattr(
        "recbole.trainer.Trainer._train_epoch",
        lambda *_, **__: seen.append(torch.get_autocast_dtype("cuda")) or 0.0,
    )

    trainer._train_epoch(train, 0)

    assert seen == [dtype]
    assert torch.get_autocast_dtype("cuda") == torch.float16  # torch's own


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_products_are_less_precise_in_training_alone(precision, toy, monkeypatch):
    trainer, train, valid, _ = trained(toy, matmul_precision=precision)
    seen, before = [], torch.get_float32_matmul_precision()
    monkeypatch.setattr(
        "recbole.trainer.Trainer._train_epoch",
        lambda *_, **__: seen.append(torch.get_float32_matmul_precision()) or 0.0,
    )
    monkeypatch.setattr(
        "recbole.trainer.Trainer.evaluate",
        lambda *_, **__: seen.append(torch.get_float32_matmul_precision()) or {},
    )

    for of_the_process in ("highest", "medium"):
        with matmul_precision(of_the_process):
            trainer._train_epoch(train, 0)
            trainer.evaluate(valid)

    assert seen == [precision, "highest"] * 2
    assert torch.get_float32_matmul_precision() == before


def test_rank_counts_better_items_and_half_of_the_equal_ones():
    scores = torch.tensor(
        [
            [-math.inf, 3.0, 2.0, 1.0, 2.0],
            [-math.inf, 1.0, 1.0, 1.0, 1.0],
            [-math.inf, 5.0, 1.0, 1.0, 1.0],
        ]
    )
    assert rank_by_counting(scores, torch.tensor([2, 2, 1])).tolist() == [1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_ranks_are_counted_in_blocks_of_any_size(dtype, monkeypatch):
    scores = torch.randint(0, 9, (7, 10)).to(dtype)
    target = torch.randint(1, 10, (7,))
    whole = rank_by_counting(scores, target)

    for size in (1, 20, 30, 1000):
        monkeypatch.setattr("recbole_mm.training.ranking.SCORES_PER_BLOCK", size)
        assert torch.equal(rank_by_counting(scores, target), whole)
    for row, item in enumerate(target):
        better = (scores[row] > scores[row, item]).sum()
        equal = (scores[row] == scores[row, item]).sum() - 1
        assert whole[row] == better + (equal + item % 2) // 2


def test_a_score_that_is_not_a_number_is_no_hit():
    scores = torch.tensor([[0.0, math.nan, 1.0], [0.0, 1.0, math.nan]])
    own, another = rank_by_counting(scores, torch.tensor([1, 1])).tolist()
    assert own == 3
    assert another == 1


def trained(toy, **settings):
    from recbole.data import data_preparation
    from recbole.utils import get_trainer

    from recbole_mm.config.load import load_config
    from recbole_mm.data.dataset import MultiModalDataset
    from recbole_mm.model.sequential_recommender.mmm4rec import MMM4Rec

    small = {"hidden_size": 8, "head_dim": 4, "d_state": 4, "n_groups": 2, "inner_size": 8}
    config = load_config("MMM4Rec", None, (), {**toy, **small, "epochs": 1, **settings}, None, {})
    dataset = MultiModalDataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = MMM4Rec(config, train._dataset)
    return get_trainer(config["MODEL_TYPE"], "MMM4Rec")(config, model), train, valid, test


def test_metrics_by_counting_equal_those_of_recbole(toy):
    from recbole.evaluator import Collector

    trainer, train, valid, _ = trained(
        toy, topk=[1, 3, 5], metrics=["NDCG", "MRR", "Recall"], valid_metric="NDCG@5"
    )
    trainer.fit(train, valid, saved=False)
    counted = trainer.evaluate(valid, load_best_model=False)
    trainer.eval_collector = Collector(trainer.config)
    assert trainer.evaluate(valid, load_best_model=False) == counted


def test_a_learner_that_does_not_exist_is_refused(toy):
    with pytest.raises(
        ValueError, match="'learner' is 'nadm'; it must be one of adam, adamw, nadam"
    ):
        trained(toy, learner="nadm")


def test_weight_decay_leaves_the_named_parameters_alone(toy):
    trainer, *_ = trained(toy, weight_decay=0.1, no_weight_decay=["*.A_log", "*.D"])
    decayed, free = trainer.optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    names = {id(p): n for n, p in trainer.model.named_parameters()}
    assert {names[id(p)].rsplit(".")[-1] for p in free["params"]} == {"A_log", "D"}
    with pytest.raises(ValueError, match="'A_lug' does not match any parameter of MMM4Rec"):
        trained(toy, no_weight_decay=["A_lug"])


def test_a_checkpoint_is_plain_data_and_resumes(toy, tmp_path):
    trainer, train, valid, _ = trained(toy, epochs=2)
    trainer.fit(train, valid, saved=True)
    state = torch.load(trainer.saved_model_file, weights_only=True)
    assert state["config"]["model"] == "MMM4Rec"
    assert not list((tmp_path / "saved").glob("*.tmp"))
    again, *_ = trained(toy, epochs=5)
    again.resume_checkpoint(trainer.saved_model_file)
    assert again.start_epoch == state["epoch"] + 1
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, state["state_dict"][name])


def test_accumulation_counts_optimizer_steps(toy):
    trainer, train, valid, _ = trained(
        toy, gradient_accumulation_steps=4, train_batch_size=30, learner="nadam"
    )
    trainer.fit(train, valid, saved=False)
    (state, *_) = trainer.optimizer.state.values()
    assert int(state["step"]) == math.ceil(len(train) / 4)


def test_parameters_are_checked_after_the_step_that_was_left_over(toy, monkeypatch):
    trainer, train, valid, _ = trained(toy, gradient_accumulation_steps=1000)
    weight = trainer.model.adapters["text"].weight
    monkeypatch.setattr(trainer.optimizer, "flush", lambda: weight.data.fill_(math.inf))

    with pytest.raises(LossIsNaN, match="are NaN or infinite after epoch 0, e.g. adapters.text"):
        trainer.fit(train, valid, saved=False)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_what_is_validated_and_saved_is_the_average_over_the_last_epochs(toy, accumulated):
    trainer, train, valid, test = trained(
        toy, epochs=2, ema_epochs=1.5, gradient_accumulation_steps=accumulated
    )
    steps, validated = [], []
    weight = trainer.model.adapters["text"].weight
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(weight.detach().clone()))
    evaluate = trainer.evaluate

    def record(*args, **kwargs):
        validated.append(weight.detach().clone())
        return evaluate(*args, **kwargs)

    trainer.evaluate = record
    trainer.fit(train, valid, saved=True)

    per_epoch = math.ceil(len(train) / accumulated)
    assert len(steps) == 2 * per_epoch
    for epoch in (1, 2):
        share = (1 - 1 / (1.5 * per_epoch)) ** torch.arange(epoch * per_epoch).flip(0).float()
        average = torch.einsum("s,sij->ij", share / share.sum(), torch.stack(steps[: len(share)]))
        assert_close(validated[epoch - 1], average)
    assert_close(weight.detach(), average)
    trainer.evaluate(test, load_best_model=True)
    assert any(torch.equal(weight, at_epoch) for at_epoch in validated[:2])
