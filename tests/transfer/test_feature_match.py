"""A pre-trained model starts on the features that it knows, and on no others."""

import numpy as np
import pytest
import torch
from tiny import PRETRAIN, TINY_MMM4REC

from recbole_mm.config.load import load_config
from recbole_mm.data.dataset import MultiModalDataset
from recbole_mm.data.feature_files import describe_features, feature_path, write_item_features
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import Run, fit_and_evaluate
from recbole_mm.transfer.feature_match import match_features
from recbole_mm.transfer.pretrained import TransferError, read_pretrained

CLIP = {"encoder": "openai/clip-vit-base-patch32", "dimension": 4, "normalization": "none"}
OTHER = {"encoder": "intfloat/e5-base-v2", "dimension": 4, "normalization": "none"}
ITEMS = [f"i{item}" for item in range(12)]


def rewrite(toy, info, modality="text", space=None, width=4):
    """The feature file of the toy data set, made in another way."""
    path = feature_path(f"{toy['data_path']}/toy", "toy", modality)
    values = np.random.default_rng(0).normal(size=(12, width)).astype(np.float32)
    write_item_features(path, ITEMS, values, info, space)


def settings(toy, **more):
    return {**toy, **TINY_MMM4REC, "modalities": ["text"], "epochs": 1, **more}


@pytest.fixture
def pretrained(toy, tmp_path, monkeypatch):
    """A checkpoint that knows vectors of CLIP."""
    monkeypatch.chdir(tmp_path)
    rewrite(toy, CLIP)
    return fit_and_evaluate(load_config("MMM4Rec", None, (), settings(toy, **PRETRAIN))).checkpoint


def start(toy, checkpoint, **more):
    return Run(load_config("MMM4Rec", None, (), settings(toy, pre_model_path=checkpoint, **more)))


def test_a_checkpoint_records_how_its_features_were_made(pretrained):
    assert read_pretrained(pretrained, "MMM4Rec").features == {"text": CLIP}


def test_a_start_on_features_of_another_encoder_is_refused_and_says_how_to_go_on(toy, pretrained):
    rewrite(toy, OTHER)

    with pytest.raises(TransferError) as error:
        start(toy, pretrained)

    message = str(error.value)
    assert f"pre_model_path {pretrained}: its adapters were trained on other features" in message
    assert (
        "text: encoder 'openai/clip-vit-base-patch32' in the checkpoint, 'intfloat/e5-base-v2' here"
        in message
    )
    assert "reset: ['adapters.text.*']" in message and "allow_other_features: True" in message


@pytest.mark.parametrize(
    ("more", "logged"),
    [
        ({"reset": ["adapters.text.*"]}, None),
        (
            {"allow_other_features": True},
            "other features (allow_other_features: True): text: encoder",
        ),
    ],
)
def test_it_runs_with_new_adapters_or_if_it_is_asked_for(toy, pretrained, caplog, more, logged):
    rewrite(toy, OTHER)

    start(toy, pretrained, **more)

    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert any("features" in message for message in warnings) == (logged is not None)
    assert (logged or "") in "\n".join(warnings)


def test_the_same_features_start_without_a_word(toy, pretrained, caplog):
    start(toy, pretrained)

    assert "features" not in "\n".join(
        r.message for r in caplog.records if r.levelname == "WARNING"
    )


@pytest.mark.parametrize("info", [{}, {"encoder": "as in Toy.feat1CLS", "dimension": 4}])
def test_features_that_do_not_name_their_encoder_are_a_warning(toy, pretrained, caplog, info):
    rewrite(toy, info)

    start(toy, pretrained)

    assert (
        "pre_model_path: text features by 'openai/clip-vit-base-patch32' in the checkpoint and an "
        "unknown encoder here: cannot check whether they are the same" in caplog.text
    )


def test_a_checkpoint_without_a_record_is_a_warning(toy, pretrained, caplog, tmp_path):
    content = torch.load(pretrained, weights_only=True)
    del content["features"]
    torch.save(content, tmp_path / "old.pth")

    start(toy, str(tmp_path / "old.pth"))

    assert "an unknown encoder in the checkpoint and 'openai/clip" in caplog.text


def test_a_bundle_knows_its_features_too(toy, pretrained, tmp_path):
    Recommender.from_pretrained(pretrained).save_pretrained(tmp_path / "bundle")
    rewrite(toy, OTHER)

    with pytest.raises(TransferError, match="'intfloat/e5-base-v2' here"):
        start(toy, str(tmp_path / "bundle"))


def test_a_modality_that_the_data_lack_is_not_compared(toy, pretrained):
    rewrite(toy, OTHER, "other")

    with pytest.raises(TransferError, match="only in the model: adapters.other"):
        start(toy, pretrained, modalities=["other", "text"])


def match(theirs, mine):
    return match_features({"text": theirs}, {"text": mine}, ["text"])


@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (CLIP, CLIP),
        (CLIP, {**CLIP, "encoder": "clip_vit_b32", "normalization": "unknown"}),
        (CLIP, {"encoder": "models/clip-vit-base-patch32", "revision": "abc"}),
        (CLIP, {"encoder": "sentence-transformers/clip-ViT-B-32"}),
        (
            {"encoder": "/here/minilm", "revision": "0123456789ab"},
            {"encoder": "/there/all-MiniLM", "revision": "0123456789ab"},
        ),
        ({"encoder": "embedded", "space": "1"}, {"encoder": "embedded", "space": "1"}),
        (
            {"encoder": "embedded", "shared_with": ["A", "B"]},
            {"encoder": "embedded", "shared_with": ["A", "B"], "space": "1"},
        ),
    ],
)
def test_the_same_encoder_under_another_name_is_the_same(theirs, mine):
    assert match(theirs, mine) == ({}, {})


@pytest.mark.parametrize(
    ("theirs", "mine", "facts"),
    [
        (CLIP, {"encoder": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"}, "encoder"),
        (CLIP, {"encoder": "openai/clip-vit-large-patch14"}, "encoder"),
        (
            CLIP,
            {**CLIP, "normalization": "l2"},
            "normalization 'none' in the checkpoint, 'l2' here",
        ),
        (
            {"encoder": "/here/minilm", "revision": "0123456789ab"},
            {"encoder": "/there/minilm", "revision": "ba9876543210"},
            "encoder '/here/minilm' in the checkpoint, '/there/minilm' here",
        ),
        ({**OTHER, "prompt": "query: "}, {**OTHER, "prompt": "passage: "}, "prompt"),
        (
            {"encoder": "embedded", "space": "1"},
            {"encoder": "embedded", "space": "2"},
            "embedded extractor in another space",
        ),
    ],
)
def test_other_features_are_told_apart(theirs, mine, facts):
    assert facts in match(theirs, mine).different["text"]


def test_the_space_of_embedded_features_is_that_of_their_arrays(toy):
    path = feature_path(f"{toy['data_path']}/toy", "toy", "text")
    spaces = []
    for number in (1.0, 1.0, 2.0):
        rewrite(toy, {"encoder": "embedded"}, space={"axes": np.full((2, 2), number)})
        spaces.append(describe_features(path)["space"])

    assert spaces[0] == spaces[1] != spaces[2]
    rewrite(toy, CLIP, space={"axes": np.ones(2)})
    assert describe_features(path) == CLIP


def test_a_data_set_knows_how_its_features_were_made(toy):
    rewrite(toy, CLIP)
    config = load_config("MMM4Rec", None, (), settings(toy, modalities=["text", "image"]))

    assert MultiModalDataset(config).feature_info == {"text": CLIP, "image": {}}
