"""What RecBole and torch hardly use is imported when it is called."""

import importlib
import subprocess
import sys
import textwrap
from types import ModuleType

import pytest
import torch

from recbole_mm.integration.stand_ins import stand_ins


def test_recbole_imports_scikit_learn_when_a_metric_calls_it():
    program = """
        import sys
        import recbole_mm
        from recbole.evaluator import metrics
        assert not {"sklearn", "scipy.stats"} & set(sys.modules)
        assert metrics.mean_absolute_error([1.0, 2.0], [2.0, 4.0]) == 1.5
        assert metrics.sk_auc([0, 0.5, 1], [0, 1, 1]) == 0.75
        import sklearn.metrics
        assert sklearn.metrics.auc([0, 1], [1, 1]) == 1
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.parametrize("loaded", [True, False])
def test_a_stand_in_takes_the_place_of_a_package_within_the_block(monkeypatch, loaded):
    real, stand_in = ModuleType("some_package"), ModuleType("some_package")
    monkeypatch.delitem(sys.modules, "some_package", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "some_package", real)

    with pytest.raises(ZeroDivisionError), stand_ins({"some_package": stand_in}):
        assert importlib.import_module("some_package") is stand_in
        1 / 0  # noqa: B018

    assert sys.modules.get("some_package") is (real if loaded else None)


@pytest.mark.slow
def test_neither_training_nor_recommending_imports_the_compiler_sympy_or_scikit_learn(toy):
    program = f"""
        import sys
        from recbole_mm.config.load import load_config
        from recbole_mm.recommend.recommender import Recommender
        from recbole_mm.run.run import Run

        for model in ("SASRec", "UniSRec", "MMM4Rec"):
            run = Run(load_config(model, config_dict={{**{toy!r}, "epochs": 1}}))
            run.train()
            if model != "SASRec":
                Recommender.from_pretrained(run.test().checkpoint).recommend()
        loaded = {{"torch._dynamo", "sympy", "sklearn", "scipy.stats"}} & set(sys.modules)
        assert not loaded, loaded
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.AdamW])
def test_a_step_of_an_optimizer_records_no_gradients(optimizer):
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    steps = optimizer([weight], lr=0.1, weight_decay=0)
    (weight**2).sum().backward()

    steps.step()

    expected = [0.8, 1.6] if optimizer is torch.optim.SGD else [0.9, 1.9]
    assert weight.tolist() == pytest.approx(expected)
    assert weight.is_leaf and torch.is_grad_enabled()
    steps.zero_grad()
    steps.load_state_dict(steps.state_dict())
    assert weight.grad is None
