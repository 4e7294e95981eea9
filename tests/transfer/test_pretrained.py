from pathlib import Path

import numpy as np
import pytest
import torch
from recbole.data import data_preparation
from recbole.utils import get_model
from tiny import PRETRAIN
from torch import nn
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.config.plain import config_to_plain
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.tools.errors import UserError
from recbole_mm.transfer.authors import AuthorsCheckpointError
from recbole_mm.transfer.bundle import Bundle, write_bundle
from recbole_mm.transfer.pretrained import TransferError, freeze, load_pretrained, read_pretrained

SMALL = {
    "MMM4Rec": {"hidden_size": 16, "head_dim": 8, "d_state": 4, "n_groups": 2, "inner_size": 16},
    "MISSRec": {"hidden_size": 16, "inner_size": 16, "n_heads": 2},
}
QUIET = {"epochs": 1, "show_progress": False}


def make(name, toy, **settings):
    config = load_config(name, None, (), {**toy, **SMALL[name], **QUIET, **settings})
    train, _, _ = data_preparation(config, MultiModalDataset(config))
    return get_model(name)(config, train._dataset)


@pytest.mark.parametrize("name", SMALL)
def test_all_but_domain_bound_parameters_are_taken_over(name, toy):
    source, target = make(name, toy, **PRETRAIN), make(name, toy, item_mm_fusion="dynamic_instance")
    reset = ["fusion.factor"] if name == "MISSRec" else []
    report = load_pretrained(target, source.state_dict(), reset)

    assert len(report.loaded) > 10
    for parameter in report.loaded:
        assert torch.equal(target.state_dict()[parameter], source.state_dict()[parameter])
    assert {p.split(".")[0] for p in report.fresh} <= {
        *("item_embeddings", "item_embedding", "interests", "fusion")
    }


@pytest.mark.parametrize("kind", ["whiten", "pca"])
def test_a_transform_that_is_taken_over_does_not_reach_the_neighbors(toy, kind):
    settings = {"neighbor_scores": True, "feature_transform": kind, "neighbor_dimension": 2}
    source = make("MMM4Rec", toy, **PRETRAIN, **settings)
    target = make("MMM4Rec", toy, **settings)
    state = source.state_dict()
    state["item_table.transforms.text.axes"] = state["item_table.transforms.text.axes"].flip(1)
    before, projected = target.neighbors.table.clone(), target.item_table.feature("text").clone()

    load_pretrained(target, state)

    assert_close(target.neighbors.table, before)
    assert not torch.allclose(target.item_table.feature("text"), projected)


def test_weights_of_neighbors_are_taken_over_and_the_whitening_is_not(toy):
    source = make("MMM4Rec", toy, **PRETRAIN, neighbor_scores=True)
    target = make("MMM4Rec", toy, neighbor_scores=True)
    with torch.no_grad():
        source.neighbors.weight["text"].fill_(2.0)
        source.neighbors.transforms["text"].mean.fill_(9.0)
    before = target.neighbors.table.clone()

    load_pretrained(target, source.state_dict())

    assert target.neighbors.weight["text"] == 2
    assert torch.equal(target.neighbors.table, before)


@pytest.mark.parametrize(
    ("source", "target", "length", "taken"),
    [
        ("shared", "shared", 5, True),
        ("recency", "recency", 4, True),
        ("recency", "recency", 5, False),
        ("shared", "recency", 5, False),
        ("none", "shared", 5, False),
        ("shared", "none", 5, False),
    ],
)
def test_the_propensity_to_repeat_is_taken_over_if_both_have_learned_the_same(
    source, target, length, taken, toy
):
    given = {**PRETRAIN, "softmax": "full", "MAX_ITEM_LIST_LENGTH": 4, "repeat_propensity": source}
    first = make("MMM4Rec", toy, **given)
    second = make("MMM4Rec", toy, MAX_ITEM_LIST_LENGTH=length, repeat_propensity=target)

    loaded = load_pretrained(second, first.state_dict()).loaded

    assert ("repeats.weight" in loaded) is taken


def test_a_model_of_fewer_modalities_takes_over_the_neighbors_by_those_that_it_has(toy):
    source = make("MMM4Rec", toy, **PRETRAIN, neighbor_scores=True)
    target = make("MMM4Rec", toy, neighbor_scores=True, modalities=["text"])

    loaded = load_pretrained(target, source.state_dict()).loaded

    assert [name for name in loaded if name.startswith("neighbors")] == [
        "neighbors.decay.text",
        "neighbors.weight.text",
    ]


def test_what_does_not_fit_is_listed_from_both_sides_and_nothing_is_loaded(toy):
    source = make("MMM4Rec", toy, **PRETRAIN, inner_size=0, d_state=8)
    target = make("MMM4Rec", toy)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    state = {**source.state_dict(), "strange.weight": torch.ones(1)}

    with pytest.raises(TransferError) as error:
        load_pretrained(target, state)

    message = str(error.value)
    assert "only in the checkpoint: strange.weight; only in the model: " in message
    assert "ffn" in message and "->" in message
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_what_is_reset_starts_anew(toy):
    source, target = make("MMM4Rec", toy, **PRETRAIN), make("MMM4Rec", toy)
    nn.init.ones_(source.adapters["text"].weight)

    report = load_pretrained(target, source.state_dict(), ["adapters.*"])

    assert not (target.adapters["text"].weight == 1).any()
    assert "adapters.text.weight" in report.fresh and "adapters.text.weight" in report.left_out


@pytest.mark.parametrize("name, deep", [("MMM4Rec", 2), ("MISSRec", 4)])
def test_a_deeper_model_starts_a_shallower_one_only_when_asked_to(name, deep, toy):
    source, target = make(name, toy, **PRETRAIN, n_layers=deep), make(name, toy)

    with pytest.raises(TransferError, match="allow_fewer_layers: True takes the lower ones"):
        load_pretrained(target, source.state_dict())
    report = load_pretrained(target, source.state_dict(), allow_fewer_layers=True)

    layers = [p for p in report.left_out if ".1." in p]
    assert layers and set(layers) == set(report.left_out) - {
        *(p for p in report.left_out if p.startswith("interests"))
    }
    with pytest.raises(TransferError, match="only in the model"):  # never the other way round
        load_pretrained(source, target.state_dict(), allow_fewer_layers=True)


@pytest.mark.parametrize("name", SMALL)
def test_a_target_may_lack_a_modality_and_that_is_said(name, toy, caplog):
    caplog.set_level("INFO")
    source, target = make(name, toy, **PRETRAIN), make(name, toy, modalities=["text"])

    load_pretrained(target, source.state_dict())

    assert "the data lack the modalities ['image']" in caplog.text
    with pytest.raises(TransferError, match=r"only in the model: adapters.image") as error:
        load_pretrained(source, target.state_dict())
    assert (
        "reads the modalities ['text'], this model ['image', 'text']: set modalities: ['text']"
        in (str(error.value))
    )


def test_patterns_that_match_nothing_are_refused(toy):
    model = make("MISSRec", toy)
    with pytest.raises(
        TransferError, match="reset: 'adaptors.*' does not match any parameter of MISSRec"
    ):
        load_pretrained(model, model.state_dict(), ["adaptors.*"])
    with pytest.raises(TransferError, match="freeze: 'trm_model.*' does not match any parameter"):
        freeze(model, ["trm_model.*"])
    with pytest.raises(TransferError, match="leaves nothing to train"):
        freeze(model, ["*"])


@pytest.fixture
def pretrained(toy):
    config = load_config("MMM4Rec", None, (), {**toy, **SMALL["MMM4Rec"], **QUIET, **PRETRAIN})
    result = fit_and_evaluate(config, verbose=False)
    assert result.test_result["ndcg@10"] > 0  # an in-batch loss does not hinder evaluation
    return result.checkpoint


def test_a_checkpoint_of_another_model_is_refused(pretrained, tmp_path):
    with pytest.raises(TransferError, match="a checkpoint of MMM4Rec and cannot start a MISSRec"):
        read_pretrained(pretrained, "MISSRec")
    with pytest.raises(TransferError, match="the checkpoint 'nowhere.pth' does not exist"):
        read_pretrained("nowhere.pth", "MISSRec")
    with pytest.raises(TransferError, match="is a folder without .*: it lacks manifest.json, "):
        read_pretrained(tmp_path, "MISSRec")
    torch.save({"state_dict": {"a": torch.ones(1)}}, tmp_path / "other.pth")
    with pytest.raises(AuthorsCheckpointError, match="neither a checkpoint .* MISSRec's authors"):
        read_pretrained(tmp_path / "other.pth", "MISSRec")


def test_frozen_parameters_stay_and_groups_have_their_learning_rate(toy, pretrained):
    settings = {
        "pre_model_path": pretrained,
        "freeze": ["encoder_layers.*"],
        "group_learning_rates": {"adapters.*": 1e-5, "*": 1e-2},
    }
    config = load_config("MMM4Rec", None, (), {**toy, **SMALL["MMM4Rec"], **QUIET, **settings})
    prepared = Run(config)
    model, trainer = prepared.trainer.model, prepared.trainer
    state = torch.load(pretrained, weights_only=True)["state_dict"]
    trainer.fit(prepared.splits.train, prepared.splits.valid, saved=False)

    for name, value in model.state_dict().items():
        if name.startswith("encoder_layers"):
            assert torch.equal(value, state[name]), name
    rates = {group["lr"]: len(group["params"]) for group in trainer.optimizer.param_groups}
    assert rates == {1e-5: 4, 1e-2: sum(p.requires_grad for p in model.parameters()) - 4}
    config["group_learning_rates"] = {"adaptors.*": 1.0}
    with pytest.raises(
        ValueError, match="group_learning_rates: 'adaptors.*' does not match any parameter"
    ):
        trainer._build_optimizer()


def test_ids_that_nothing_has_trained_are_not_tested(toy, pretrained):
    settings = {**toy, **SMALL["MMM4Rec"], **QUIET, "pre_model_path": pretrained, "epochs": 0}
    with pytest.raises(TransferError, match="would test untrained item IDs"):
        Run(load_config("MMM4Rec", None, (), settings))
    Run(load_config("MMM4Rec", None, (), {**settings, "use_item_id": False}))


@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec", "UniSRec"])
def test_new_items_are_recommended_by_their_features_without_training(name, toy, tmp_path):
    small = SMALL.get(name, SMALL["MISSRec"])
    settings = {**toy, **small, **QUIET, "use_item_id": False}
    trained = fit_and_evaluate(load_config(name, None, (), settings), verbose=False).checkpoint
    folder = tmp_path / "dataset/toy"
    for modality in ("text", "image"):
        with np.load(folder / f"toy.{modality}.npz") as file:
            names, vectors = file["item_id"].tolist(), file["feature"]
        twin = vectors[[names.index("i3")]]
        write_item_features(
            folder / f"toy.{modality}.npz", [*names, "new"], np.concatenate([vectors, twin])
        )
    (folder / "toy.item").write_text("\n".join(["item_id:token", *names, "new"]) + "\n")
    more = {"pre_model_path": trained, "epochs": 0, "selected_features": ["title"]}
    more["load_col"] = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}

    run = Run(load_config(name, None, (), {**settings, **more}))
    model, items = run.trainer.model.eval(), run.splits.test.dataset
    model.on_epoch_start(0)
    with torch.no_grad():
        scores = model.full_sort_predict(next(iter(run.splits.test))[0])

    old, new = items.token2id("item_id", ["i3", "new"])
    assert scores.shape[1] == 14
    assert_close(scores[:, new], scores[:, old])


@pytest.mark.parametrize(("key", "value"), [("pre_model_path", "any.pth"), ("freeze", ["any"])])
def test_models_of_recbole_do_not_transfer(toy, key, value):
    config = load_config("SASRec", None, (), {**toy, **QUIET, key: value})
    with pytest.raises(TransferError, match=f"{key}: only .*MISSRec, .* transfer, not SASRec"):
        Run(config)


def test_reset_without_anything_to_start_from_is_refused(toy):
    config = load_config(
        "MMM4Rec", None, (), {**toy, **SMALL["MMM4Rec"], **QUIET, "reset": ["adapters.*"]}
    )
    with pytest.raises(TransferError, match="reset: .* without pre_model_path"):
        Run(config)


@pytest.mark.parametrize("transform", ["whiten", "pca"])
@pytest.mark.parametrize("name", list(SMALL))
def test_new_items_change_no_score_of_the_others_whatever_is_done_to_the_features(
    toy, name, transform
):
    """Axes that were estimated again from six new items turned NDCG@10 of .10 into .02."""
    settings = {**toy, **SMALL[name], **QUIET, "use_item_id": False, "epochs": 1}
    settings |= {"feature_transform": transform, "modalities": ["text"]}
    first = Run(load_config(name, None, (), settings))
    first.train(saved=False, verbose=False)
    state = first.model.state_dict()
    folder = Path(toy["data_path"], "toy")
    path = feature_path(folder, "toy", "text")
    tokens = [f"i{item}" for item in range(12)]
    values = read_item_features(path, ["[PAD]", *tokens]).values[1:].numpy()
    new = 50 * np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    write_item_features(
        path, [*tokens, *(f"n{i}" for i in range(6))], np.concatenate([values, new])
    )
    rows = ["item_id:token", *tokens, *(f"n{i}" for i in range(6))]
    (folder / "toy.item").write_text("\n".join(rows) + "\n")
    load_col = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}

    later = Run(load_config(name, None, (), {**settings, "load_col": load_col}))
    own = later.model.state_dict()
    kept = {key: value for key, value in own.items() if key.startswith("interests.")}
    later.model.load_state_dict(state | kept)

    assert later.model.n_items == 19
    assert_close(later.model.feature("text")[:13], first.model.feature("text")[:13])
    if not kept:
        batch = next(iter(first.splits.test))[0]
        with torch.no_grad():
            before, after = (
                run.model.eval().full_sort_predict(batch)[:, 1:13] for run in (first, later)
            )
        assert_close(after, before)


@pytest.mark.parametrize("kind", ["checkpoint", "bundle"])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_parameters_that_are_not_finite_start_no_model(toy, tmp_path, kind, value):
    model = make("MMM4Rec", toy, **PRETRAIN)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    name = next(name for name in state if state[name].is_floating_point())
    state[name].view(-1)[0] = value
    config = config_to_plain(load_config("MMM4Rec", None, (), {**toy, **SMALL["MMM4Rec"]}))
    path = tmp_path / "start"
    if kind == "checkpoint":
        torch.save({"config": config, "state_dict": state}, path)
    else:
        write_bundle(path, Bundle({"model": "MMM4Rec", "config": config}, state, {}, {}), "")

    with pytest.raises(UserError, match=f"{path}: 1 of its .* e.g. {name}: NaN or infinite values"):
        make_run(toy, path)


def make_run(toy, path):
    return Run(
        load_config(
            "MMM4Rec", None, (), {**toy, **SMALL["MMM4Rec"], **QUIET, "pre_model_path": str(path)}
        )
    )
