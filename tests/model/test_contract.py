"""Properties that every model of the package has."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from recbole.data import data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer
from torch.testing import assert_close

from recbole_mm.config.load import load_config
from recbole_mm.config.models import MODELS
from recbole_mm.config.property_files import properties_dir
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.model.layers.item_rows import tables_of_items
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.yaml_files import read_yaml

# sizes at which a test takes moments; a model that is not here fails the first test
SMALL = {
    "MMM4Rec": {
        "hidden_size": 16,
        "head_dim": 8,
        "d_state": 4,
        "n_groups": 2,
        "inner_size": 16,
        "use_time": True,
    },
    "MISSRec": {"hidden_size": 16, "inner_size": 16, "n_heads": 2},
    "UniSRec": {"hidden_size": 16, "inner_size": 16, "n_heads": 2, "n_experts": 2},
    "SASRecPlus": {
        "hidden_size": 16,
        "inner_size": 16,
        "n_heads": 2,
        "loss_positions": "last",
        "modalities": ["text", "image"],
    },
    "HSTU": {
        "hidden_size": 16,
        "n_heads": 2,
        "loss_positions": "last",
        "modalities": ["text", "image"],
    },
}
MODALITIES = [["text"], ["text", "image"], ["image", "text", "audio"]]
STAGES = [
    {"train_stage": "pretrain", "use_item_id": False, "softmax": "in_batch"},
    {"train_stage": "finetune", "use_item_id": False, "softmax": "full"},
    {"train_stage": "finetune", "use_item_id": True, "softmax": "full"},
    {"train_stage": "finetune", "use_item_id": True, "held_out_items": 0.2},
    {"train_stage": "finetune", "use_item_id": True, "repeat_propensity": "recency"},
    {"train_stage": "finetune", "use_item_id": True, "neighbor_scores": True},
    {"train_stage": "finetune", "use_item_id": True, "softmax": "sampled", "n_negatives": 4},
    {"train_stage": "finetune", "use_item_id": True, "softmax": "gbce", "n_negatives": 4},
]
STAGE_NAMES = [
    "pretrain",
    "without-id",
    "with-id",
    "new-items",
    "repeats",
    "neighbors",
    "sampled",
    "gbce",
]


def test_every_model_is_tested_here():
    assert set(SMALL) == set(MODELS)


@pytest.fixture
def toy_with_audio(toy, tmp_path):
    """The toy data set with a third modality that most items lack."""
    path = feature_path(tmp_path / "dataset" / "toy", "toy", "audio")
    write_item_features(path, ["i1", "i5", "i7"], torch.randn(3, 5).numpy())
    return toy


def prepare(name, toy, **settings):
    config = load_config(name, None, (), {**toy, **SMALL[name], **settings}, None, {})
    dataset = MultiModalDataset(config)
    loaders = data_preparation(config, dataset)
    torch.manual_seed(0)
    model = get_model(name)(config, loaders[0]._dataset)
    return config, model, loaders


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("modalities", MODALITIES, ids="-".join)
@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_it_trains_and_scores_the_same_after_loading_its_checkpoint(
    name, modalities, stage, toy_with_audio
):
    _, model, (train, _, test) = prepare(name, toy_with_audio, modalities=modalities, **stage)
    model.train()
    model.on_epoch_start(0)
    loss = model.calculate_loss(next(iter(train)))
    loss.backward()

    assert torch.isfinite(loss)
    for parameter, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None, f"{parameter} gets no gradient"
            assert torch.isfinite(value.grad).all(), parameter

    model.eval()
    batch = next(iter(test))[0]
    if "held_out_items" in stage:
        assert not model.trained[batch["item_id"]].all()
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        assert scores.shape == (len(batch), model.n_items)
        assert torch.isfinite(scores).all()
        own = scores.gather(1, batch["item_id"].unsqueeze(1)).squeeze(1)
        assert_close(model.predict(batch), own)

        _, again, _ = prepare(name, toy_with_audio, modalities=modalities, **stage)
        again.load_state_dict(model.state_dict())
        assert torch.equal(again.eval().full_sort_predict(batch), scores)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("n_layers", [2, 4])
@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_an_item_without_any_modality_leaves_the_gradients_small(name, n_layers, stage, toy):
    """Adam divides by the root of their mean square, which a large one dominates for long."""
    _, model, (train, *_) = prepare(name, toy, n_layers=n_layers, **stage)
    batch = next(iter(train))
    alone = batch["item_id_list"][batch["item_length"] == 1, 0][0]  # a whole history
    for modality in model.modalities:
        model.present(modality)[alone] = False
        model.feature(modality)[alone] = 0
    model.on_epoch_start(0)

    model.train().calculate_loss(batch).backward()

    gradients = {
        n: float(p.grad.abs().max()) for n, p in model.named_parameters() if p.grad is not None
    }
    assert max(gradients.values()) < 100, gradients


def test_padded_times_never_change_a_score(toy):
    _, model, (_, valid, _) = prepare("MMM4Rec", toy)
    model.eval()
    model.on_epoch_start(0)
    batch = next(iter(valid))[0]
    with torch.no_grad():
        before = model.full_sort_predict(batch)
        padding = torch.arange(batch["item_id_list"].shape[1]) >= batch["item_length"].unsqueeze(1)
        batch["timestamp_list"][padding] = 1.0e9
        assert torch.equal(model.full_sort_predict(batch), before)


@pytest.mark.parametrize("name", SMALL)
def test_scores_do_not_depend_on_the_padding(name, toy):
    settings = {"use_time": False} if name == "MMM4Rec" else {}  # time layers have one size
    _, model, (train, _, _) = prepare(name, toy, **settings)
    model.eval()
    model.on_epoch_start(0)
    batch = next(iter(train))
    short = batch[batch["item_length"] <= 3]
    assert 0 < len(short) < len(batch)
    with torch.no_grad():
        padded = model.full_sort_predict(short)
        for field in ("item_id_list", "timestamp_list"):
            short.update(Interaction({field: short[field][:, :3]}))
        assert_close(model.full_sort_predict(short), padded)


@pytest.mark.parametrize("name", SMALL)
def test_scores_of_a_row_do_not_depend_on_the_other_rows(name, toy):
    _, model, (_, valid, _) = prepare(name, toy, length_group_size=3)
    model.eval()
    model.on_epoch_start(0)
    batch = next(iter(valid))[0]
    with torch.no_grad():
        together = model.full_sort_predict(batch)
        alone = torch.cat([model.full_sort_predict(batch[i : i + 1]) for i in range(len(batch))])
    assert_close(alone, together, atol=1e-5, rtol=1e-5)


def in_evaluation(name, toy):
    """A model that is ready to score, and a batch of users."""
    _, model, (_, valid, _) = prepare(name, toy)
    model.eval()
    model.on_epoch_start(0)
    return model, next(iter(valid))[0]


@pytest.mark.parametrize("name", SMALL)
def test_histories_that_are_all_computed_at_the_full_length_have_the_same_scores(name, toy):
    model, batch = in_evaluation(name, toy)
    with torch.no_grad():
        expected = model.full_sort_predict(batch)
        with model.at_fixed_length():
            assert_close(model.full_sort_predict(batch), expected, atol=1e-5, rtol=1e-5)
    assert not model.fixed_length


@pytest.mark.parametrize("name", SMALL)
def test_a_copy_shares_tensors_and_keeps_no_scores_of_the_model(name, toy):
    model, batch = in_evaluation(name, toy)
    with torch.no_grad():
        expected = model.full_sort_predict(batch)
        copied = model.sharing_copy()
        assert copied._kept_in_evaluation == {}
        assert torch.equal(copied.full_sort_predict(batch), expected)
    tensors = [*model.parameters(), *model.buffers()]
    assert {*map(id, tensors)} == {*map(id, (*copied.parameters(), *copied.buffers()))}


@pytest.mark.parametrize("modalities", [["text"], ["text", "image"]], ids="-".join)
@pytest.mark.parametrize("name", SMALL)
def test_an_untrained_id_does_not_change_a_score(name, modalities, toy):
    """Items differ by their features, whatever their IDs are."""
    _, model, (*_, test) = prepare(name, toy, modalities=modalities, **STAGES[3])
    model.eval()
    model.on_epoch_start(0)
    batch = next(iter(test))[0]
    twins = (~model.trained).nonzero().squeeze(1)[1:3]
    for modality in modalities:
        model.feature(modality)[twins[1]] = model.feature(modality)[twins[0]]
    with torch.no_grad():
        scores = model.full_sort_predict(batch)

    assert len(twins) == 2
    assert_close(scores[:, twins[0]], scores[:, twins[1]])


@pytest.mark.parametrize("name", SMALL)
def test_an_item_without_features_and_trained_id_is_never_recommended(name, toy):
    _, model, (*_, test) = prepare(name, toy, **STAGES[3])
    model.eval()
    model.on_epoch_start(0)
    batch = next(iter(test))[0]
    new, trained = (~model.trained).nonzero()[1].item(), model.trained.nonzero()[0].item()
    for modality in model.modalities:
        model.present(modality)[[new, trained]] = False
    with torch.no_grad():
        scores = model.full_sort_predict(batch)
        batch.update(Interaction({"item_id": torch.full((len(batch),), new)}))
        assert (model.predict(batch) == -torch.inf).all()

    assert (scores[:, new] == -torch.inf).all()
    assert scores[:, trained].isfinite().all()


@pytest.mark.parametrize("use_item_id", [False, True])
@pytest.mark.parametrize("name", SMALL)
def test_untrained_items_can_be_kept_out_of_the_softmax(name, use_item_id, toy):
    settings = {"use_item_id": use_item_id, "held_out_items": 0.2, "reg_weight": 0.0}
    _, model, (train, _, _) = prepare(name, toy, softmax="trained", **settings)
    _, full, _ = prepare(name, toy, softmax="full", **settings)
    full.load_state_dict(model.state_dict())
    batch = next(iter(train))
    trained = train._dataset.item_counts() > 0
    assert not trained[0] and not (trained & train._dataset.held_out()).any()
    assert trained[batch["item_id"]].all() and 0 < (~trained[1:]).sum() < len(trained) - 1

    model.eval(), full.eval()
    logits = full.full_sort_predict(batch).masked_fill(~trained, -torch.inf)
    expected = torch.nn.functional.cross_entropy(logits, batch["item_id"])
    assert_close(model.next_item_loss(batch), expected)
    assert not torch.isclose(expected, full.next_item_loss(batch))


def test_logq_correction_makes_the_loss_that_of_uniform_sampling(toy):
    """With every interaction in the batch, gradients are those of the full softmax."""
    settings = {"softmax": "in_batch", "mask_repeated_targets": False}
    _, model, (train, _, _) = prepare("MMM4Rec", toy, **settings)
    targets = torch.cat([batch["item_id"] for batch in train])
    counts = torch.bincount(targets, minlength=model.n_items)
    assert len(counts[1:].unique()) > 1
    candidates = torch.arange(len(counts)).repeat_interleave(counts)
    own = torch.randperm(len(candidates))[:5]
    scores = torch.randn(5, len(counts), requires_grad=True)

    loss = model.candidate_loss.of_logits(scores[:, candidates], candidates, own)
    full = torch.nn.functional.cross_entropy(
        scores.masked_fill(counts == 0, -torch.inf), candidates[own]
    )

    assert_close(*(torch.autograd.grad(each, scores)[0] for each in (loss, full)))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("softmax", ["full", "trained", "in_batch"])
def test_it_trains_with_mixed_precision(name, softmax, toy):
    _, model, (train, *_) = prepare(name, toy, softmax=softmax)
    batch = next(iter(train))
    model.on_epoch_start(0)
    exact = model.eval().calculate_loss(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.calculate_loss(batch)
    loss.backward()

    assert_close(loss.float(), exact, rtol=0.05, atol=0)
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SMALL)
def test_features_are_not_in_a_checkpoint(name, toy):
    _, model, _ = prepare(name, toy)
    n_values = model.feature("text").numel()
    assert not [k for k in model.state_dict() if "feature" in k]
    assert n_values == model.n_items * 4


@pytest.mark.parametrize("name", SMALL)
def test_domain_parameters_are_patterns_that_match(name, toy):
    from fnmatch import fnmatch

    settings = {"item_mm_fusion": "dynamic_instance", "use_item_id": True}
    _, model, _ = prepare(name, toy, **settings, repeat_propensity="shared")
    names = list(model.state_dict())
    for pattern in model.domain_parameters:
        assert any(fnmatch(n, pattern) for n in names), pattern
    bound = [n for n, p in model.named_parameters() if p.dim() and p.shape[0] == model.n_items]
    for n in bound:  # whatever has one row per item belongs to the data set
        assert any(fnmatch(n, pattern) for pattern in model.domain_parameters), n


@pytest.mark.parametrize("name", SMALL)
def test_item_ids_are_refused_while_pretraining(name, toy):
    with pytest.raises(ValueError, match="use_item_id is on in the pretrain stage"):
        prepare(name, toy, train_stage="pretrain", use_item_id=True)


@pytest.mark.parametrize("name", SMALL)
def test_no_modality_and_unknown_choices_are_refused(name, toy):
    without = {"modalities": [], "use_item_id": False}
    with pytest.raises(
        ValueError, match=f"{name} (needs at least one modality|needs item IDs or features)"
    ):
        prepare(name, toy, **without)
    with pytest.raises(ValueError, match="'softmax' is 'some'; it must be one of trained, full"):
        prepare(name, toy, softmax="some")


@pytest.mark.parametrize("name", ["MMM4Rec", "MISSRec"])
def test_an_unknown_fusion_is_refused(name, toy):
    with pytest.raises(ValueError, match="'item_mm_fusion' is 'sum'; it must be one of static"):
        prepare(name, toy, item_mm_fusion="sum")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("use_item_id", [True, False], ids=["with-id", "without-id"])
def test_planted_order_is_found_and_noise_is_not(name, use_item_id, toy, tmp_path):
    settings = {
        "use_item_id": use_item_id,
        "epochs": 30,
        "stopping_step": 30,
        "learning_rate": 0.01,
        "train_batch_size": 64,
        "topk": [10],
        "embedding_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "time_dropout_prob": 0.0,
        "temperature": 0.1,
        "metrics": ["NDCG"],
    }
    if name != "MMM4Rec":
        settings = {k: v for k, v in settings.items() if not k.startswith(("emb", "time_"))}

    def ndcg(data):
        config, model, (train, valid, test) = prepare(name, data, **settings)
        trainer = get_trainer(config["MODEL_TYPE"], name)(config, model)
        trainer.fit(train, valid, saved=False)
        return trainer.evaluate(test, load_best_model=False)["ndcg@10"]

    assert ndcg(toy) > 0.8
    assert ndcg(shuffled(tmp_path)) < 0.6  # twelve items: chance is about 0.43


def shuffled(tmp_path):
    """The toy data set with random items instead of the circle."""
    lines = (tmp_path / "dataset/toy/toy.inter").read_text().splitlines()
    header, rows = lines[0], [line.split("\t") for line in lines[1:]]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).tolist()
    mixed = ["\t".join([u, rows[j][1], t]) for (u, _, t), j in zip(rows, order, strict=True)]
    folder = tmp_path / "noise" / "toy"
    folder.mkdir(parents=True)
    (folder / "toy.inter").write_text("\n".join([header, *mixed]) + "\n")
    for modality in ("text", "image"):
        source = tmp_path / "dataset" / "toy" / f"toy.{modality}.npz"
        (folder / source.name).write_bytes(source.read_bytes())
    return {"dataset": "toy", "data_path": str(folder.parent)}


def test_model_modules_read_config_and_layers_do_not(repository):
    for path in (repository / "recbole_mm/model/layers").glob("*.py"):
        text = path.read_text()
        assert "config" not in text, path
        assert "import recbole\n" not in text and "from recbole." not in text, path
    for name in MODELS:
        module = import_module(f"recbole_mm.model.sequential_recommender.{name.lower()}")
        assert getattr(module, name).__doc__


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_knows_its_items_whatever_their_order_on_disk(name, toy, tmp_path):
    """IDs are numbered as the items appear in the file; rows in another order are other numbers."""
    fusion = {"item_mm_fusion": "dynamic_instance"} if "item_mm_fusion" in keys_of(name) else {}
    _, model, (*_, test) = prepare(name, toy, use_item_id=True, **fusion)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.eval()
    expected = scores_by_target(model, test)  # fills the interests of MISSRec
    state = {key: value.clone() for key, value in model.state_dict().items()}
    path = tmp_path / "dataset" / "toy" / "toy.inter"
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *rows[::-1]]) + "\n")

    _, again, (*_, test) = prepare(name, toy, use_item_id=True, **fusion)
    assert again.item_tokens.tolist() != model.item_tokens.tolist()
    again.load_state_dict(state)
    again.load_other_parameter(model.other_parameter())

    found = scores_by_target(again.eval(), test)
    assert found.keys() == expected.keys()
    for target, scores in expected.items():
        assert_close(found[target], scores)


def scores_by_target(model, test):
    """On the toy set the target decides the history: scores in the order of the items' names."""
    batch = next(iter(test))[0]
    columns = model.item_tokens[1:].argsort() + 1
    with torch.no_grad():
        scores = model.full_sort_predict(batch)[:, columns]
    return dict(zip(model.item_tokens[batch["item_id"]], scores, strict=True))


def keys_of(name):
    return read_yaml(properties_dir() / "model" / f"{name}.yaml")


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_of_other_items_is_refused_where_ids_count(name, toy):
    _, model, _ = prepare(name, toy, use_item_id=True)
    other = {"item_tokens": ["[PAD]", *(f"other{i}" for i in range(12))]}

    with pytest.raises(UserError, match="12 of the 12 items of the data are not in it, e.g. .'i"):
        model.load_other_parameter(other)


@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_with_another_number_of_items_is_refused_by_name(name, toy):
    _, model, _ = prepare(name, toy, use_item_id=True)
    state = dict(model.state_dict())
    tables = tables_of_items(model, model.item_tables, model.n_items)
    table, (_, axis) = next(iter(tables.items()))
    row = state[table].narrow(axis, 0, 1)
    state[table] = torch.cat([state[table], row], dim=axis)

    with pytest.raises(UserError, match=rf"other items: {table} is .*14.* have 12 items and the"):
        model.load_state_dict(state)


@pytest.mark.parametrize("name", SMALL)
def test_an_empty_history_is_refused(name, toy):
    _, model, (*_, test) = prepare(name, toy)
    batch = next(iter(test))[0][:3]
    batch["item_length"][1] = 0

    with pytest.raises(ValueError, match="row 1 of the batch has an empty history"):
        model.eval().full_sort_predict(batch)


@pytest.mark.parametrize("name", ["MMM4Rec", "UniSRec"])
def test_a_data_set_without_features_names_the_command_that_makes_them(name, toy, tmp_path):
    folder = tmp_path / "bare" / "toy"
    folder.mkdir(parents=True)
    shutil.copy(Path(toy["data_path"]) / "toy" / "toy.inter", folder)

    with pytest.raises(
        ValueError, match="has no feature file; `recbole-mm extract toy` makes them"
    ):
        prepare(name, toy, data_path=str(folder.parent), modalities=None)
