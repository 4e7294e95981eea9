"""Features of tomorrow's items are made as those that the model of today was trained on."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.data.domains import MixtureError
from recbole_mm.data.feature_files import (
    describe_features,
    feature_path,
    read_feature_rows,
    write_item_features,
)
from recbole_mm.prepare import prepared
from recbole_mm.prepare.alike import ways_of
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.mix import mix
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.recommend.recommender import Recommender

TRAIN = [
    "train", "--model=MMM4Rec", "--dataset=Shop", "--train_stage=finetune", "--use_gpu=False",
    *(f"--{key}={value}" for key, value in {**TINY_MMM4REC, "epochs": 1}.items()),
]  # fmt: skip
COLORS = ("red", "green", "blue", "white", "black", "yellow")


def write_shop(folder: Path, n_items: int, n_events: int) -> Path:
    rng = random.Random(1)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with open(folder / "items.jsonl", "w") as file:
        for number in range(n_items):
            color = COLORS[number % len(COLORS)]
            side = 12 + number // len(COLORS)
            Image.new("RGB", (side, 12), color).save(folder / "images" / f"i{number}.png")
            item = {"item": f"i{number}", "title": f"{color} train number {number}"}
            file.write(json.dumps({**item, "image": f"images/i{number}.png"}) + "\n")
    events = [
        f"u{event % 12},i{number if event > 7 * n_items else event % n_items},{1600000000 + event}"
        for event in range(n_events)
        for number in [rng.randrange(n_items)]
    ]
    (folder / "interactions.csv").write_text("\n".join(["user,item,timestamp", *events]) + "\n")
    return folder


def features(modality: str, tokens, name="Shop"):
    path = feature_path(f"dataset/{name}", name, modality)
    return read_feature_rows(path, ["[PAD]", *tokens])[0][1:]


def space(modality: str, name="Shop") -> str:
    return describe_features(feature_path(f"dataset/{name}", name, modality))["space"]


@pytest.fixture
def today():
    """The data set of a shop."""
    shop = write_shop(Path("Shop"), 18, 150)
    assert main(["prepare", str(shop)]) == 0
    return shop


def test_the_model_of_today_continues_on_the_tables_of_tomorrow(today, capsys):
    tokens = [f"i{number}" for number in range(18)]
    before = {modality: features(modality, tokens) for modality in ("text", "image")}
    spaces = {modality: space(modality) for modality in before}
    assert main([*TRAIN, "--checkpoint_dir=saved"]) == 0
    (checkpoint,) = Path("saved").glob("*.pth")

    write_shop(today, 20, 190)
    assert main(["prepare", str(today), "--like=Shop"]) == 0

    for modality, values in before.items():
        np.testing.assert_allclose(features(modality, tokens), values, atol=5e-3)
        assert space(modality) == spaces[modality]
        assert np.linalg.norm(features(modality, ["i18", "i19"]), axis=1) == pytest.approx(1)
    assert not list(Path("dataset/Shop").glob("*.old"))
    assert main([*TRAIN, f"--pre_model_path={checkpoint}"]) == 0

    assert main(["prepare", str(today)]) == 0
    capsys.readouterr()
    assert main([*TRAIN, f"--pre_model_path={checkpoint}"]) == 2
    assert "(recbole-mm extract DATASET --like=NAME; NAME is" in capsys.readouterr().err


def test_a_bundle_gives_its_space_after_the_data_set_has_another(today, capsys):
    assert main([*TRAIN, "--checkpoint_dir=saved"]) == 0
    (checkpoint,) = map(str, Path("saved").glob("*.pth"))
    Recommender.from_pretrained(checkpoint).export("bundle")
    spaces = {modality: space(modality) for modality in ("text", "image")}
    write_shop(today, 20, 190)
    assert main(["prepare", str(today)]) == 0
    assert space("text") != spaces["text"]

    assert main(["extract", "Shop", "--like=bundle"]) == 0

    assert {modality: space(modality) for modality in spaces} == spaces
    assert main([*TRAIN, f"--pre_model_path={checkpoint}"]) == 0
    capsys.readouterr()
    assert main(["extract", "Shop", f"--like={checkpoint}"]) == 2
    assert f"recbole-mm export {checkpoint} FOLDER" in capsys.readouterr().err


@pytest.mark.parametrize("like", ["Shop", "dataset/Shop"])
def test_an_interrupted_command_resumes_in_the_space_that_it_began_with(today, like, monkeypatch):
    spaces = {modality: space(modality) for modality in ("text", "image")}
    write_shop(today, 20, 190)
    command = ["prepare", str(today), f"--like={like}"]

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "write_interactions", interrupt)
        assert main(command) == 130
    assert PreparedDataset("dataset", "Shop").modalities() == []

    assert main(command) == 0
    assert {modality: space(modality) for modality in spaces} == spaces


def test_only_data_sets_in_one_space_are_mixed(today):
    shop = write_shop(Path("other"), 20, 160)
    assert main(["prepare", str(shop), "--name=Other", "--like=dataset/Shop"]) == 0
    domains = [PreparedDataset("dataset", name) for name in ("Shop", "Other")]
    assert mix(domains, "dataset", "Both").modalities() == []

    write_shop(today, 19, 190)
    assert main(["prepare", str(today)]) == 0
    with pytest.raises(MixtureError, match="differ in encoder"):
        mix(domains, "dataset", "Both")


def test_an_encoder_is_the_recorded_one_with_its_fields_and_its_name(today, tmp_path):
    small_encoders = pytest.importorskip("small_encoders", reason="needs recbole_mm[features]")
    words = ["red", "green", "blue", "train", "number"]
    encoder = small_encoders.save_text_encoder(tmp_path / "encoders" / "words", words)
    command = ["extract", "Shop", "--modalities", "text", "--text-fields", "title"]
    assert main([*command, f"--encoder={encoder}", "--save-as=words", "--normalize"]) == 0
    tokens = [f"i{number}" for number in range(18)]
    before = features("words", tokens)
    write_shop(today, 20, 190)

    assert main(["prepare", str(today), "--like=Shop", "--modalities", "text"]) == 0

    np.testing.assert_allclose(features("words", tokens), before, atol=2e-3)
    info = describe_features(feature_path("dataset/Shop", "Shop", "words"))
    assert (info["input"], info["normalization"]) == (["title"], "l2")
    encoder.rename(encoder.with_name("moved"))
    with pytest.raises(
        InputError, match="--like=Shop: words features are by the encoder .* not here"
    ):
        ways_of("Shop", "dataset", ["text"])


def test_features_that_were_made_elsewhere_are_skipped_and_reported(today, capsys):
    folder = Path("dataset/Shop")
    for modality in ("text", "image"):
        feature_path(folder, "Shop", modality).unlink()
    vectors = np.ones((1, 2), np.float32)
    write_item_features(feature_path(folder, "Shop", "text"), ["i1"], vectors, {"encoder": "mine"})
    write_item_features(
        feature_path(folder, "Shop", "image"), ["i1"], vectors, {"encoder": "embedded"}
    )

    assert main(["prepare", str(today), "--like=Shop"]) == 2

    output = capsys.readouterr()
    assert "its text features were not made by recbole-mm extract" in output.out
    assert "its image features lack the space of the embedded extractor" in output.out
    assert "--like=Shop: it has no text or image features" in output.err


@pytest.mark.usefixtures("today")
def test_a_damaged_space_is_named():
    path = feature_path("dataset/Shop", "Shop", "text")
    info = {"encoder": "embedded", "input": ["title"]}
    write_item_features(path, ["i1"], np.ones((1, 2), np.float32), info, {"axes": np.ones((2, 3))})

    with pytest.raises(InputError, match="the space of its text features is damaged"):
        ways_of("Shop", "dataset", ["text"])


@pytest.mark.usefixtures("today")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "Shop", "--like=Shop", "--encoder=x"], "--like names the encoder"),
        (["prepare", "Shop", "--like=Shop", "--no-features"], "--like names the encoder"),
        (["prepare", "Shop", "--like=Shap"], "Data sets in dataset: Shop"),
        (["extract", "Shop", "--like=Shop", "--encoder=x"], "--like names the encoder"),
        (["extract", "Shop", "--like=Shop", "--dimension=8"], "--dimension has no effect"),
        (["extract", "Shop", "--like=Shop", "--modality", "a=b.npy"], "give one"),
    ],
)
def test_what_does_not_go_with_it_is_refused(capsys, arguments, message):
    try:
        status = main(arguments)
    except SystemExit as end:
        status = end.code

    assert status == 2
    assert message in capsys.readouterr().err
