"""Tiny encoders made from config, saved, and loaded from disk as a user would."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from small_amazon import mirrors_file, publish
from tiny import TINY
from web_server import serving

from recbole_mm.cli import main
from recbole_mm.data.feature_files import read_feature_info
from recbole_mm.prepare import encoder_files
from recbole_mm.prepare.commands import prepare
from recbole_mm.prepare.extract import load_encoder
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset

transformers = pytest.importorskip("transformers", reason="encoders need transformers")

from recbole_mm.prepare.open_encoder import open_encoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "blue", "toy", "train"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TEXT = {**SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 8}
PICTURE = {**SMALL, "image_size": 16, "patch_size": 8}


def save(folder, model, picture_size=None):
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer.from_pretrained(str(folder), model_max_length=8)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    if picture_size:
        kind = {"clip": "CLIP", "siglip": "Siglip", "blip": "Blip"}[model.config.model_type]
        processor = getattr(transformers, f"{kind}ImageProcessor")
        sizes = {"size": picture_size}
        if kind == "CLIP":
            sizes["crop_size"] = picture_size
        processor(**sizes).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    size = {"height": 16, "width": 16}
    ends = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = {**TEXT, **ends}
    clip = transformers.CLIPConfig(text_config=text, vision_config=PICTURE, projection_dim=12)
    siglip = transformers.SiglipConfig(text_config=text, vision_config=PICTURE)
    spread = {
        "initializer_range": 0.5
    }  # BLIP's own start is so narrow that all pictures look alike
    blip = transformers.BlipConfig(
        text_config={**text, **spread, "encoder_hidden_size": 16},
        vision_config={**PICTURE, **spread},
        projection_dim=10,
        **spread,
    )
    return {
        "bert": save(root / "bert", transformers.BertModel(transformers.BertConfig(**TEXT))),
        "clip": save(root / "clip", transformers.CLIPModel(clip), size),
        "siglip": save(root / "siglip", transformers.SiglipModel(siglip), size),
        "blip": save(root / "blip", transformers.BlipModel(blip), size),
    }


@pytest.mark.parametrize("name, width", [("bert", 16), ("clip", 12), ("siglip", 16), ("blip", 10)])
def test_a_text_has_one_vector_whatever_stands_beside_it(models, name, width):
    encoder = open_encoder(models[name])

    together, _ = encoder.texts(["red toy", "a blue toy train"])
    alone, _ = encoder.texts(["red toy"])

    assert together.shape == (2, width)
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    assert np.abs(together[0] - together[1]).max() > 1e-4


@pytest.mark.parametrize("name, width", [("clip", 12), ("siglip", 16), ("blip", 10)])
def test_pictures_become_vectors_without_torchvision(models, name, width):
    pictures = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (5, 9), "blue")]

    vectors = open_encoder(models[name]).images(pictures)

    assert vectors.shape == (2, width)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_long_texts_are_cut_and_counted(models):
    encoder = open_encoder(models["bert"])

    vectors, cut = encoder.texts(["red " * 50, "red", "red " * 6])

    assert encoder.max_length == 8
    assert cut == 1
    assert np.isfinite(vectors).all()


def test_mean_pooling_is_the_mean_of_the_hidden_states(models):
    encoder = open_encoder(models["bert"])
    tokens = encoder.tokenizer(["a red toy"], return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model(**tokens).last_hidden_state[0]

    both = ["a red toy", "a blue toy train toy"]
    np.testing.assert_allclose(encoder.texts(both)[0][0], hidden.mean(0), atol=1e-5)
    first = open_encoder(models["bert"], pooling="cls").texts(both)[0][0]
    np.testing.assert_allclose(first, hidden[0], atol=1e-5)


def test_a_text_encoder_refuses_pictures(models):
    with pytest.raises(InputError, match="cannot encode images.*--modalities"):
        open_encoder(models["bert"]).require("image")


def test_an_encoder_that_is_not_there_is_an_error_of_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="cannot be loaded.*saved model"):
        open_encoder(str(tmp_path / "empty"))


@pytest.mark.parametrize(
    "name, offline, words, absent",
    [
        ("some/clip", True, "HF_HUB_OFFLINE is set, .* another model on the Hugging", "such as"),
        ("clip", True, "HF_HUB_OFFLINE is set, .* a model .*, such as sentence", "another model"),
        ("some/clip", False, "the hub cannot be reached, or has no such model", "HF_HUB_OFFLINE"),
    ],
)
def test_a_model_that_the_hub_does_not_give_names_the_ways_on(
    monkeypatch, name, offline, words, absent
):
    def unreachable(*_, **__):
        raise LocalEntryNotFoundError("An error happened while trying to locate the file")

    monkeypatch.setattr(encoder_files, "hf_hub_download", unreachable)
    monkeypatch.setattr(encoder_files.constants, "HF_HUB_OFFLINE", offline)

    with pytest.raises(InputError, match=f"encoder '{name}' cannot be loaded: .*{words}") as error:
        load_encoder(name)

    assert absent not in str(error.value)
    assert "Without --encoder the embedded extractor is used" in str(error.value)


def test_the_embedded_extractor_is_not_advised_where_there_is_none(tmp_path):
    with pytest.raises(InputError, match="saved model") as error:
        open_encoder(str(tmp_path))

    assert "--encoder" not in str(error.value)


def test_the_revision_is_the_hash_of_the_weights(models):
    assert open_encoder(models["bert"]).revision.startswith("model.safetensors:")
    assert open_encoder(models["bert"]).revision == open_encoder(models["bert"]).revision


def word_tokenizer(**special):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel(dict(zip(WORDS, range(len(WORDS)), strict=True)), "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    kind = transformers.PreTrainedTokenizerFast
    return kind(tokenizer_object=words, unk_token="[UNK]", model_max_length=8, **special)


@pytest.fixture
def gpt(tmp_path):
    """A decoder whose tokenizer has no padding token."""
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=8, bos_token_id=2,
        eos_token_id=3,
    )  # fmt: skip
    transformers.GPT2Model(config).save_pretrained(tmp_path / "gpt")
    word_tokenizer(eos_token="[SEP]").save_pretrained(tmp_path / "gpt")
    return str(tmp_path / "gpt")


@pytest.fixture(params=["T5Model", "T5EncoderModel"])
def t5(tmp_path, request):
    config = transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        pad_token_id=0, decoder_start_token_id=0,
    )  # fmt: skip
    getattr(transformers, request.param)(config).save_pretrained(tmp_path / "t5")
    word_tokenizer(pad_token="[PAD]", eos_token="[SEP]").save_pretrained(tmp_path / "t5")
    return str(tmp_path / "t5")


def test_a_decoder_without_a_padding_token_encodes_texts_of_different_lengths(gpt):
    encoder = open_encoder(gpt)

    together, _ = encoder.texts(["red toy", "a blue toy train"])

    assert together.shape == (2, 16)
    np.testing.assert_allclose(together[:1], encoder.texts(["red toy"])[0], atol=1e-5)


def test_of_an_encoder_decoder_the_encoder_is_taken(t5):
    encoder = open_encoder(t5)
    tokens = encoder.tokenizer(["a red toy"], return_tensors="pt")
    with torch.inference_mode():
        hidden = encoder.model(input_ids=tokens["input_ids"]).last_hidden_state[0]

    both, _ = encoder.texts(["a red toy", "a blue toy train toy"])

    np.testing.assert_allclose(both[0], hidden.mean(0), atol=1e-5)


def test_a_prompt_stands_before_every_text(models):
    plain, prompted = open_encoder(models["bert"]), open_encoder(models["bert"], prompt="a red ")

    np.testing.assert_allclose(
        prompted.texts(["toy", "train"])[0],
        plain.texts(["a red toy", "a red train"])[0],
        atol=1e-6,
    )


def test_a_device_that_does_not_exist_is_an_error_of_one_line(models):
    with pytest.raises(InputError, match="--device=banana: it cannot be used"):
        open_encoder(models["bert"], device="banana")


def test_a_run_that_downloads_its_data_takes_the_named_encoder(models, tmp_path, capsys):
    command = ["--model=SASRec", "--dataset=Pantry", "--download", "--mirrors=mine.yaml"]
    command += [f"--{key}={value}" for key, value in {**TINY, "epochs": 1}.items()]
    with serving({}) as server:
        publish(server, 2018, "Prime_Pantry")
        mirrors_file(server, tmp_path / "mine.yaml")

        assert main([*command, f"--encoder={models['bert']}"]) == 2
        assert "cannot encode images" in capsys.readouterr().err
        assert server.asked == []
        assert main([*command, f"--encoder={models['clip']}"]) == 0

    for modality in ("text", "image"):
        info = read_feature_info(f"dataset/Pantry/Pantry.{modality}.npz")
        assert (info["encoder"], info["dimension"]) == (models["clip"], 12)


def test_an_encoder_that_lacks_a_modality_is_refused_before_anything_is_written(
    models, shop, tmp_path
):
    command = [str(shop), f"--output={tmp_path / 'out'}", f"--encoder={models['bert']}"]

    with pytest.raises(InputError, match="cannot encode images: .*--modalities"):
        prepare.main(command)
    assert not (tmp_path / "out").exists()

    prepare.main([*command, "--modalities", "text"])
    assert PreparedDataset(tmp_path / "out", "shop").modalities() == ["text"]
