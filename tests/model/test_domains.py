"""Adapters and transforms that every domain of a mixture has for itself."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model
from small_models import SMALL
from tiny import PRETRAIN
from torch.testing import assert_close

from recbole_mm.cli import main
from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import fit_and_evaluate
from recbole_mm.tools.errors import UserError
from recbole_mm.transfer.pretrained import TransferError, load_pretrained

NAMES = ["MMM4Rec", "MISSRec", "UniSRec"]
OWN = {"adapters_per_domain": True, "feature_transform": "zca", "transform_per_domain": True}
QUIET = {"epochs": 1, "show_progress": False}


@pytest.fixture
def root(toy):
    """Three data sets beside ``toy``, whose features lie elsewhere and are stretched otherwise."""
    root, random = toy["data_path"], np.random.default_rng(0)
    for number, name in enumerate(("Food", "Home", "Shop")):
        folder = Path(root, name)
        folder.mkdir()
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        for user in range(20):
            rows += [f"u{user}\ti{(user + step) % 12}\t{1_400_000_000 + step}" for step in range(5)]
        (folder / f"{name}.inter").write_text("\n".join(rows) + "\n")
        tokens = [f"i{item}" for item in range(12)]
        for modality, width in (("text", 4), ("image", 3)):
            values = random.normal(size=(12, width)) * random.uniform(1, 4, width) + 3 * number
            write_item_features(
                feature_path(folder, name, modality), tokens, values.astype(np.float32)
            )
    return root


def settings_of(root, name, **settings):
    return {"data_path": root, **SMALL[name], **QUIET, **settings}


def mixture(root, name, **settings):
    given = {"domains": ["Food", "Home"], **PRETRAIN, **settings}
    config = load_config(name, "Both", (), settings_of(root, name, **given))
    train, _, _ = data_preparation(config, MultiModalDataset(config))
    return get_model(name)(config, train._dataset).eval(), train._dataset


def single(root, name, **settings):
    config = load_config(name, "Shop", (), settings_of(root, name, **settings))
    train, _, _ = data_preparation(config, MultiModalDataset(config))
    return get_model(name)(config, train._dataset).eval()


@pytest.mark.parametrize("name", NAMES)
def test_items_go_through_the_adapter_and_the_transform_of_their_domain(root, name):
    model, both = mixture(root, name, **OWN)
    before = model.adapt("text")
    own = both.item_domain == 0

    with torch.no_grad():
        for parameter in model.adapters["text"][1].parameters():
            parameter.add_(1.0)

    assert_close(model.adapt("text")[own], before[own])
    assert not torch.isclose(model.adapt("text")[~own][1:], before[~own][1:]).all(dim=1).any()
    raw = read_item_features(
        feature_path(f"{root}/Food", "Food", "text"), ["pad", *(f"i{n}" for n in range(12))]
    ).values[1:]
    white = model.feature("text")[own]
    assert_close(white.T.cov(), torch.eye(4), atol=1e-3, rtol=0)
    tokens = [both.field2id_token["item_id"][i] for i in own.nonzero().squeeze(1)]
    order = [int(token.removeprefix("Food:i")) for token in tokens]
    assert_close(white, model.item_table.transforms["text"][0](raw[order], torch.ones(12).bool()))


@pytest.mark.parametrize("name", NAMES)
def test_a_target_keeps_its_own_adapters_and_takes_the_encoder(root, name):
    source, _ = mixture(root, name, **OWN)
    target = single(root, name, **OWN)
    reset = ["fusion.factor"] if name == "MISSRec" else []

    report = load_pretrained(target, source.state_dict(), reset)

    own = {p for p in target.state_dict() if p.startswith(("adapters.", "item_table."))}
    assert own and own <= set(report.fresh)
    assert len(report.loaded) > 5
    with pytest.raises(TransferError, match=r"only in the checkpoint: adapters\.image\.0"):
        load_pretrained(single(root, name), source.state_dict(), reset)


@pytest.mark.parametrize("name", NAMES)
def test_a_pretrained_mixture_recommends_and_starts_a_shop_from_its_bundle(root, name, tmp_path):
    given = settings_of(root, name, **OWN, **PRETRAIN, domains=["Food", "Home"])
    given["checkpoint_dir"] = str(tmp_path / "saved")
    result = fit_and_evaluate(load_config(name, "Both", (), given))
    recommender = Recommender.from_pretrained(result.checkpoint, device="cpu")
    histories = {"user": ["a"], "items": [["Food:i1", "Food:i2"]]}
    recommender.save_pretrained(tmp_path / "bundle")

    of_bundle = Recommender.from_pretrained(tmp_path / "bundle", device="cpu")

    found, expected = (
        each.recommend(pl.DataFrame(histories), k=5)["item"].to_list()
        for each in (of_bundle, recommender)
    )
    assert found == expected
    new = {m: (torch.zeros(1, 4), torch.ones(1).bool()) for m in recommender.model.modalities}
    with pytest.raises(UserError, match="belong to no domain of a model"):
        recommender.model.append_items(["new"], new)
    reset = {"reset": ["fusion.factor"]} if name == "MISSRec" else {}
    target = settings_of(root, name, **OWN, **reset, pre_model_path=str(tmp_path / "bundle"))
    target["checkpoint_dir"] = str(tmp_path / "saved")
    assert fit_and_evaluate(load_config(name, "Shop", (), target)).test_result["ndcg@10"] >= 0


def test_axes_that_mean_something_else_in_every_domain_are_refused(root, tmp_path, capsys):
    arguments = ["--model=MMM4Rec", "--dataset=Shop", f"--data_path={root}", "--epochs=1"]
    arguments += ["--transform_per_domain=True", f"--checkpoint_dir={tmp_path}"]

    assert main([*arguments, "--feature_transform=whiten"]) == 2

    assert (
        "transform_per_domain needs feature_transform: zca, not whiten" in capsys.readouterr().err
    )
