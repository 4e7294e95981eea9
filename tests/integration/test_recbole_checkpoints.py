import io
import pickle

import numpy as np
import pytest
import torch
from as_if_in import as_if_in
from recbole.config import Config
from recbole.trainer import Trainer

from recbole_mm.config.load import RunConfig, load_config
from recbole_mm.config.plain import config_to_plain
from recbole_mm.integration import recbole_checkpoints


def load(path, weights_only=None):
    if weights_only is None:
        return torch.load(path)
    return torch.load(path, weights_only=weights_only)


load_in_recbole = as_if_in("recbole.trainer.trainer", load)


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('exploded').touch()",)


def checkpoint(config, path, **more):
    torch.save({"config": config, "state_dict": {"w": torch.ones(2)}, **more}, path)
    return path


def test_recbole_reads_its_own_pickled_checkpoint(tmp_path):
    config = load_config("SASRec", "demo")
    trainer = Trainer(config, torch.nn.Linear(2, 2))
    trainer.model.other_parameter = lambda: None
    trainer.best_valid_score = np.float64(0.5)
    trainer._save_checkpoint(3, verbose=False, saved_model_file=tmp_path / "recbole.pth")

    loaded = load_in_recbole(tmp_path / "recbole.pth")

    assert loaded["config"].final_config_dict == config.final_config_dict
    assert loaded["epoch"] == 3
    assert loaded["best_valid_score"] == 0.5
    torch.testing.assert_close(loaded["state_dict"]["weight"], trainer.model.weight.detach())


def test_recbole_gets_a_config_from_our_plain_checkpoint(tmp_path):
    config = load_config("SASRec", "demo", overrides={"seed": 5})
    path = checkpoint(config_to_plain(config), tmp_path / "ours.pth")

    loaded = load_in_recbole(path)["config"]

    assert isinstance(loaded, RunConfig)
    assert loaded.final_config_dict == config.final_config_dict


def test_recbole_does_not_execute_a_foreign_pickle(tmp_path):
    path = checkpoint(load_config("SASRec", "demo"), tmp_path / "bad.pth", other=Bomb())

    with pytest.raises(
        pickle.UnpicklingError, match=r"would import __builtin__.eval.*trust its origin"
    ):
        load_in_recbole(path)

    assert not (tmp_path / "exploded").exists()


class ConfigBomb:
    """A Config evaluates the strings of the dict that it is made of."""

    def __reduce__(self):
        code = "__import__('pathlib').Path('exploded').touch()"
        return Config, (None, None, None, {"x": code})


@pytest.mark.parametrize("key", ["config", "other"])
def test_recbole_makes_no_config_out_of_a_pickle(tmp_path, key):
    path = tmp_path / "bad.pth"
    torch.save({"config": load_config("SASRec", "demo"), key: ConfigBomb()}, path)

    with pytest.raises(pickle.UnpicklingError, match="would create a Config, which executes code"):
        load_in_recbole(path)

    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("made", "changed"),
    [
        (b"cyaml.loader\nFullLoader\n", "FullLoader"),
        (b"crecbole.utils.enum_type\nModelType\n", "ModelType"),
        (b"crecbole.utils.enum_type\nModelType\nK\x01\x85R", "ModelType"),  # a member
        (b"ctorch._utils\n_rebuild_tensor_v2\n", "_rebuild_tensor_v2"),
        (b"crecbole.config.configurator\nConfig\n", "Config"),
    ],
)
def test_a_pickle_changes_nothing_that_the_process_shares(made, changed):
    state = b"N}X\x05\x00\x00\x00hellos\x86b."  # (None, {"hello": ...}) sets attributes
    state = state.replace(b"hello", b"helloX\x01\x00\x00\x00x")
    unpickler = recbole_checkpoints._RecBoleUnpickler(io.BytesIO(b"\x80\x02" + made + state))

    with pytest.raises(pickle.UnpicklingError, match=f"would change {changed}, which"):
        unpickler.load()


def test_what_a_module_of_recbole_imports_is_not_recboles():
    unpickler = recbole_checkpoints._RecBoleUnpickler(io.BytesIO(b"\x80\x04N."))
    unpickler.load()  # a dotted name is looked up under protocol 4

    with pytest.raises(pickle.UnpicklingError, match="recbole.utils.utils.os.system"):
        unpickler.find_class("recbole.utils.utils", "os.system")
    with pytest.raises(pickle.UnpicklingError, match="recbole.trainer.Trainer"):
        unpickler.find_class("recbole.trainer", "Trainer")
    assert issubclass(unpickler.find_class("recbole.config.configurator", "Config"), Config)


@pytest.mark.parametrize("module", ["somebody.else", "recbole_mm.transfer.pretrained"])
def test_torch_load_is_as_strict_as_ever_outside_recbole(tmp_path, module):
    config = load_config("SASRec", "demo")
    pickled = checkpoint(config, tmp_path / "pickled.pth")
    plain = checkpoint(config_to_plain(config), tmp_path / "plain.pth")

    with pytest.raises(pickle.UnpicklingError):
        as_if_in(module, load)(pickled)
    assert type(as_if_in(module, load)(plain)["config"]) is dict


def test_a_caller_in_recbole_that_says_what_it_wants_gets_it(tmp_path):
    path = checkpoint(config_to_plain(load_config("SASRec", "demo")), tmp_path / "plain.pth")

    assert type(load_in_recbole(path, weights_only=True)["config"]) is dict
