"""Models trained for a moment, and where their checkpoints are."""

import pytest
from tiny import TINY, TINY_MMM4REC

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run

MODELS = {
    "MMM4Rec": TINY_MMM4REC,
    "MMM4Rec-time": {**TINY_MMM4REC, "use_time": True},
    "MISSRec": {**TINY, "n_heads": 2},
    "UniSRec": {**TINY, "n_heads": 2, "n_experts": 2},
}


@pytest.fixture
def trained(toy, tmp_path):
    """A function that trains a model on the toy set: its run, tested."""

    def train(name: str, **settings) -> Run:
        given = {**toy, **MODELS[name], "checkpoint_dir": str(tmp_path / "saved"), **settings}
        run = Run(load_config(name.partition("-")[0], config_dict=given))
        run.train()
        run.result = run.test()
        return run

    return train
