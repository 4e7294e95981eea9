"""Models trained for a moment, and where their checkpoints are."""

import pytest
from small_models import SMALL

from recbole_mm.config.load import load_config
from recbole_mm.run.run import Run


@pytest.fixture
def trained(toy, tmp_path):
    """A function that trains a model on the toy set: its run, tested."""

    def train(name: str, **settings) -> Run:
        given = {**toy, **SMALL[name], "checkpoint_dir": str(tmp_path / "saved"), **settings}
        run = Run(load_config(name.partition("-")[0], config_dict=given))
        run.train()
        run.result = run.test()
        return run

    return train
