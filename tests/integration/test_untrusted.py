"""What RecBole's own functions do not execute once this package is imported."""

import pickle
import random
from pathlib import Path

import pytest
import torch
from recbole.config import Config
from recbole.model.context_aware_recommender.kd_dagfm import KD_DAGFM
from recbole.quick_start import load_data_and_model, run_recbole
from recbole.trainer import Trainer
from tiny import TINY, TINY_MMM4REC

from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.config.models import BASELINES, INSTEAD, MODELS, admitted_models, recbole_models
from recbole_mm.config.plain import config_from_plain, config_to_plain
from recbole_mm.run.run import fit_and_evaluate
from recbole_mm.tools.errors import UserError

SHORT = {"epochs": 1, "valid_metric": "NDCG@5", "topk": [5]}
TOUCH = "__import__('pathlib').Path('exploded').touch()"
NOT_ADMITTED = "'KD_DAGFM' is one of RecBole's context-aware models, which are not run here"


class Bomb:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return eval, (TOUCH,)


@pytest.fixture
def bomb(tmp_path):
    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    return path


@pytest.fixture(autouse=True)
def nothing_explodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("exploded").exists()


def test_sequential_models_of_recbole_are_admitted_and_no_others():
    assert set(admitted_models()) == {*recbole_models("sequential")}
    for model in (*MODELS, "SASRec", "GRU4RecKG", *BASELINES):
        assert load_config(model, "demo")["model"] == model


@pytest.mark.parametrize("model", sorted({*recbole_models()} - {*admitted_models(), *INSTEAD}))
def test_other_models_of_recbole_are_refused_by_name(model, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(f'model: {model}\nteacher: "{TOUCH}"\n')
    refusal = f"model '{model}' is one of RecBole's .* models, which are not run here"

    with pytest.raises(ConfigError, match=refusal):
        load_config(model, "demo")
    with pytest.raises(ConfigError, match=refusal):
        load_config(None, "demo", [file])


def pickled_checkpoint(config, path: Path) -> Path:
    """As RecBole's trainer writes it."""
    trainer = Trainer(config, torch.nn.Linear(2, 2))
    trainer.model.other_parameter = lambda: None
    trainer._save_checkpoint(0, verbose=False, saved_model_file=path)
    return path


def plain_checkpoint(values: dict, path: Path) -> Path:
    torch.save({"config": values, "state_dict": {}}, path)
    return path


@pytest.mark.parametrize("form", ["plain", "pickled"])
def test_a_checkpoint_cannot_name_a_model_whose_configuration_is_executed(form, toy, tmp_path):
    config = Config("SASRec", config_dict={**toy, "train_neg_sample_args": None})
    hostile = {"model": "KD_DAGFM", "teacher": TOUCH, "phase": "teacher_training"}
    if form == "plain":
        values = config_to_plain(load_config("SASRec", config_dict=toy))
        path = plain_checkpoint({**values, **hostile}, tmp_path / "evil.pth")
    else:
        config.final_config_dict.update(hostile)
        path = pickled_checkpoint(config, tmp_path / "evil.pth")

    with pytest.raises(ConfigError, match=NOT_ADMITTED):
        load_data_and_model(path)


@pytest.mark.parametrize("form", ["plain", "pickled"])
def test_a_stored_configuration_has_only_the_keys_of_its_model(form, toy, tmp_path, bomb):
    """The checkpoint names a pickle as its data set, and keys that other models read."""
    hostile = {
        "teacher": TOUCH, "warm_up": str(bomb), "dataset_save_path": str(bomb),
        "dataloaders_save_path": str(bomb), "save_dataset": True, "nonsense": 1,
    }  # fmt: skip
    config = load_config("GRU4Rec", config_dict={**toy, "hidden_size": 8})
    if form == "plain":
        path = plain_checkpoint({**config_to_plain(config), **hostile}, tmp_path / "evil.pth")
    else:
        for key, value in hostile.items():
            config[key] = value
        path = pickled_checkpoint(config, tmp_path / "evil.pth")

    with pytest.raises(UserError, match="state_dict"):  # it gets as far as the parameters
        load_data_and_model(path)

    read = config_from_plain({**config_to_plain(config), **hostile})
    assert read["hidden_size"] == 8
    assert not any(key in read.final_config_dict for key in ("teacher", "warm_up", "nonsense"))
    assert not any(read[key] for key in hostile)


@pytest.mark.usefixtures("bomb")
@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("save_dataset", True),
        ("save_dataloaders", True),
        ("dataset_save_path", "bomb.pkl"),
        ("dataloaders_save_path", "bomb.pkl"),
    ],
)
def test_data_sets_are_neither_pickled_nor_unpickled(model, key, value, toy):
    given = {**toy, **TINY, **SHORT, key: value}

    with pytest.raises(ConfigError, match=f"config_dict: {key}: RecBole's saved data sets are not"):
        load_config(model, config_dict=given)
    with pytest.raises(ConfigError, match=f"configuration: {key}: RecBole's saved data sets are"):
        run_recbole(model, config_dict={**given, "train_neg_sample_args": None})


NAMES = {
    "MMM4Rec": ("toy-MultiModalDataset.pth", "toy-for-MMM4Rec-dataloader.pth"),
    "SASRec": ("toy-SequentialDataset.pth", "toy-for-SASRec-dataloader.pth"),
}


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("number", [0, 1])
def test_a_pickle_that_lies_among_the_checkpoints_is_not_read(model, number, toy, bomb):
    lying = Path("saved", NAMES[model][number])
    lying.parent.mkdir()
    bomb.rename(lying)
    given = {**toy, **(TINY_MMM4REC if model == "MMM4Rec" else TINY), **SHORT}

    with pytest.raises(ConfigError, match=f"{lying}: a data set that RecBole has pickled"):
        run_recbole(model, config_dict={**given, "train_neg_sample_args": None})

    result = fit_and_evaluate(load_config(model, config_dict=given))
    assert result.epochs == 1


def trained(model: str, toy) -> Path:
    given = {**toy, **(TINY_MMM4REC if model == "MMM4Rec" else TINY), **SHORT}
    return Path(fit_and_evaluate(load_config(model, config_dict=given)).checkpoint)


@pytest.mark.parametrize("model", ["MMM4Rec", "SASRec"])
def test_a_damaged_checkpoint_is_opened_by_recbole_or_refused_by_its_name(model, toy):
    path = trained(model, toy)
    whole, rng, refused = path.read_bytes(), random.Random(6), 0
    load_data_and_model(path)
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            load_data_and_model(path)
        except UserError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused > 70


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["config"].pop("model"), "'model'"),
        (lambda content: content["config"].update(hidden_size="banana"), "'hidden_size' is 'bana"),
        (lambda content: content.update(state_dict=3), "not a checkpoint"),
        (
            lambda content: next(iter(content["state_dict"].values())).fill_(torch.nan),
            "NaN or infinite values",
        ),
    ],
)
def test_recbole_opens_no_checkpoint_with_values_that_no_model_has(change, words, toy):
    path = trained("MMM4Rec", toy)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)

    with pytest.raises(UserError, match=f"{path}: .*{words}"):
        load_data_and_model(path)


class MakesAModel:
    """KD_DAGFM executes its configuration when it is made."""

    def __reduce__(self):
        return KD_DAGFM, ({"teacher": TOUCH}, None)


def test_a_pickle_cannot_make_a_model(tmp_path):
    torch.save({"config": MakesAModel(), "state_dict": {}}, tmp_path / "evil.pth")

    with pytest.raises(UserError, match="would create a model, which may execute code"):
        load_data_and_model(tmp_path / "evil.pth")
