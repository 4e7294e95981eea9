"""A bundle gives what its checkpoint gives, without the data set, and refuses every damage."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from small_models import SMALL
from tiny import TINY

from recbole_mm.cli import main
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.data.features import read_item_features
from recbole_mm.recommend.recommender import Recommender
from recbole_mm.run.run import run
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.hashing import sha256_of_file
from recbole_mm.transfer.bundle import VERSION, BundleError

HISTORIES = pl.DataFrame(
    {"user": ["a", "b", "c"], "items": [["i1", "i2", "i3"], ["i7"], []]},
)


@pytest.fixture
def half_features(toy):
    """Features that float16 holds exactly."""
    folder = Path(toy["data_path"]) / "toy"
    for modality in ("text", "image"):
        path = feature_path(folder, "toy", modality)
        tokens = [f"i{i}" for i in range(12)]
        values = read_item_features(path, ["pad", *tokens]).values[1:]
        write_item_features(path, tokens, values.half().numpy(), {"encoder": "circle"})


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder for what is made once."""
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture
def bundle(half_features, trained, shelf, tmp_path):  # noqa: ARG001 features of the toy set
    """A copy, for the test to change, of the bundle that the first test makes."""
    made, folder = shelf / "bundle", tmp_path / "bundle"
    if not made.exists():
        Recommender.from_pretrained(trained("UniSRec").result.checkpoint).save_pretrained(made)
    shutil.copytree(made, folder)
    return folder


@pytest.mark.usefixtures("half_features")
@pytest.mark.parametrize("use_item_id", [True, False], ids=["with-id", "without-id"])
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("modalities", [["text"], ["image", "text"]], ids="-".join)
def test_a_bundle_recommends_what_its_checkpoint_does(
    name, use_item_id, modalities, trained, toy, tmp_path
):
    run = trained(name, use_item_id=use_item_id, modalities=modalities)
    original = Recommender.from_pretrained(run.result.checkpoint)
    original.save_pretrained(tmp_path / "bundle")
    expected = original.recommend(HISTORIES, k=12)
    shutil.rmtree(toy["data_path"])

    again = Recommender.from_pretrained(tmp_path / "bundle")

    assert again.recommend(HISTORIES, k=12).equals(expected)
    assert list(again.catalog.features) == modalities


@pytest.mark.usefixtures("half_features")
@pytest.mark.parametrize("kind", ["whiten", "pca"])
def test_transforms_of_features_are_those_of_the_training(kind, trained, toy, tmp_path):
    run = trained("UniSRec", feature_transform=kind, feature_dimension=2)
    original = Recommender.from_pretrained(run.result.checkpoint)
    original.save_pretrained(tmp_path / "bundle")
    shutil.rmtree(toy["data_path"])

    again = Recommender.from_pretrained(tmp_path / "bundle")

    assert again.model.feature("text").shape == (13, 2)
    assert again.catalog.features["text"].values.shape == (13, 4)
    assert torch.equal(again.model.feature("text"), original.model.feature("text"))
    assert again.recommend(HISTORIES).equals(original.recommend(HISTORIES))


def test_a_transform_that_does_not_fit_is_refused(trained, tmp_path):
    run = trained("UniSRec", feature_transform="whiten")
    Recommender.from_pretrained(run.result.checkpoint).save_pretrained(tmp_path / "b")
    state = load_file(tmp_path / "b" / "model.safetensors")
    state["item_table.transforms.text.axes"] = torch.zeros(7, 2)
    save_file(state, tmp_path / "b" / "model.safetensors")
    sign(tmp_path / "b")

    with pytest.raises(UserError, match="no axes that project text features of width 4"):
        Recommender.from_pretrained(tmp_path / "b")


def test_features_of_a_bundle_are_float16_unless_they_do_not_fit(trained, toy, tmp_path):
    path = feature_path(f"{toy['data_path']}/toy", "toy", "text")
    large = np.full((12, 4), 1e5, dtype=np.float32) + np.eye(12, 4, dtype=np.float32)
    write_item_features(path, [f"i{i}" for i in range(12)], large)

    Recommender.from_pretrained(trained("UniSRec").result.checkpoint).save_pretrained(
        tmp_path / "b"
    )

    items = load_file(tmp_path / "b" / "items.safetensors")
    assert items["image.feature"].dtype == torch.float16
    assert items["text.feature"].dtype == torch.float32
    assert items["text.feature"].isfinite().all()


def test_a_bundle_has_no_users_and_names_no_folder(bundle, tmp_path):
    texts = [path.read_bytes() for path in bundle.iterdir()]

    folders = str(tmp_path.parent).encode()  # of all tests
    assert not any(b"u0" in text or folders in text for text in texts)
    with pytest.raises(
        UserError, match="a bundle has no users or events of its own: give whole histories"
    ):
        Recommender.from_pretrained(bundle).recommend()


def test_the_command_tests_the_model_and_writes_a_card(trained, toy, tmp_path, capsys):
    result = trained("UniSRec").result
    rows = "".join(f"i{i}\tTitle {i}\n" for i in range(12))
    Path(toy["data_path"], "toy", "toy.item").write_text("item_id:token\ttitle:token_seq\n" + rows)

    assert main(["export", result.checkpoint, str(tmp_path / "out" / "toy")]) == 0

    assert f"{tmp_path / 'out' / 'toy'}: UniSRec, 12 items, 0." in capsys.readouterr().out
    card = (tmp_path / "out" / "toy" / "README.md").read_text()
    assert "| modality | encoder | revision | width | pooling | normalization | prompt |" in card
    _, header, body = card.split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert metadata["library_name"] == "recbole_mm"
    measured = metadata["model-index"][0]["results"][0]["metrics"]
    by_name = {metric["type"]: metric["value"] for metric in measured}
    assert by_name["ndcg@10"] == pytest.approx(result.test_result["ndcg@10"], abs=1e-4)
    assert by_name["recall@10"] == pytest.approx(result.test_result["recall@10"], abs=1e-4)
    assert "`toy`: 40 users, 12 items, 280 interactions" in body
    assert "valid_and_test" in body and "| text | circle | " not in body
    row = next(line for line in body.splitlines() if line.startswith("| test | NDCG@10"))
    value, interval = row.split("|")[3:5]
    low, high = map(float, interval.split(" to "))
    assert low < float(value) < high
    again = Recommender.from_pretrained(tmp_path / "out" / "toy")
    assert again.recommend(HISTORIES, k=1, titles=True)["title"][0].startswith("Title ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["toy"]


@pytest.mark.parametrize(
    ("split", "is_validated"), [({"RS": [1, 0, 0]}, False), ({"LS": "valid_only"}, True)]
)
def test_a_model_without_test_targets_recommends_and_its_card_reports_no_test(
    split, is_validated, trained, tmp_path
):
    checkpoint = trained("UniSRec", eval_args={"split": split}).result.checkpoint
    folder = tmp_path / "b"

    assert main(["recommend", f"--model={checkpoint}", "--output=top.csv", "--no-progress"]) == 0
    assert main(["export", checkpoint, str(folder)]) == 0

    assert len(pl.read_csv("top.csv")) == 40 * 10
    card = (folder / "README.md").read_text()
    assert "not been tested: the split of its training has no test targets" in card
    assert ("| validation | NDCG@10 | 0." in card) == is_validated
    assert "inf" not in card.partition("## Metrics")[2].partition("## Features")[0]
    assert "Infinity" not in (folder / "config.json").read_text()
    Recommender.from_pretrained(folder).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again" / "README.md").read_text() == card


def test_a_card_reports_that_the_test_was_omitted(trained, tmp_path):
    checkpoint = trained("UniSRec").result.checkpoint

    assert main(["export", checkpoint, str(tmp_path / "b"), "--no-test"]) == 0

    card = (tmp_path / "b" / "README.md").read_text()
    assert "This model has not been tested.\n" in card and "bootstrapped" not in card


def test_a_bundle_keeps_the_names_of_pictures_relative_to_their_folder(trained, toy, tmp_path):
    folder = Path(toy["data_path"], "toy")
    names = ["images/i0.png", str(tmp_path / "i1.png"), "../i2.png", *[""] * 9]
    rows = "".join(f"i{i}\t{name}\n" for i, name in enumerate(names))
    (folder / "toy.item").write_text("item_id:token\timage:token\n" + rows)
    Recommender.from_pretrained(trained("UniSRec").result.checkpoint).export(tmp_path / "b")

    again = Recommender.from_pretrained(tmp_path / "b")
    again.export(tmp_path / "again")

    for bundle in ("b", "again"):
        items = json.loads((tmp_path / bundle / "items.json").read_text())
        named = dict(zip(items["item"], items["image"], strict=True))
        assert {item: name for item, name in named.items() if name} == {"i0": "images/i0.png"}


def test_a_bundle_that_exists_is_kept_unless_told_otherwise(bundle, tmp_path, capsys):
    other = tmp_path / "notes"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    copied = bundle.rename(tmp_path / "first")

    assert main(["export", str(copied), str(tmp_path / "second")]) == 0
    assert main(["export", str(copied), str(tmp_path / "second")]) == 2
    assert "second exists; give another folder, or --overwrite" in capsys.readouterr().err
    assert main(["export", str(copied), str(tmp_path / "second"), "--overwrite"]) == 0
    assert main(["export", str(copied), str(other), "--overwrite"]) == 2
    assert "notes is not a bundle and is not replaced" in capsys.readouterr().err
    assert (other / "mine.txt").read_text() == "mine"
    assert (tmp_path / "second" / "model.safetensors").read_bytes() == (
        copied / "model.safetensors"
    ).read_bytes()


def test_a_bundle_without_pictures_names_the_option_to_omit(bundle):
    recommender = Recommender.from_pretrained(bundle)

    with pytest.raises(
        UserError, match=r"has no pictures of its items; omit --pictures \(in Python"
    ):
        recommender.recommend(HISTORIES, k=2, pictures=True)

    n_items = len(recommender.catalog.tokens)
    change_json(bundle / "items.json", image=[None] * (n_items - 1) + ["a.png"])
    sign(bundle)
    with pytest.raises(UserError, match="has only the names of the pictures .*; omit --pictures"):
        Recommender.from_pretrained(bundle).recommend(HISTORIES, k=2, pictures=True)


def test_a_bundle_with_files_of_the_user_is_not_replaced(bundle, tmp_path, capsys):
    (bundle / "new.csv").write_text("item,title\nx1,Lamp\n")
    shutil.copytree(bundle, tmp_path / "first")

    assert main(["export", str(tmp_path / "first"), str(bundle), "--overwrite"]) == 2

    assert "files that are not of a bundle and would be lost, e.g. 'new.csv'" in (
        capsys.readouterr().err
    )
    assert (bundle / "new.csv").exists()


FILES = ["config.json", "model.safetensors", "items.safetensors", "items.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["one bit", "truncated", "empty", "missing"])
def test_any_damage_is_named(name, damage, bundle):
    path = bundle / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        half = len(content) // 2
        flipped = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        path.write_bytes({"one bit": flipped, "truncated": content[:half], "empty": b""}[damage])

    with pytest.raises(BundleError) as error:
        Recommender.from_pretrained(bundle)
    if not (name == "manifest.json" and damage == "one bit"):
        assert name in str(error.value)


def test_a_changed_card_is_the_users(bundle):
    (bundle / "README.md").write_text("my words")

    assert len(Recommender.from_pretrained(bundle).recommend(HISTORIES, k=1)) == 3


def sign(folder):
    """The manifest that fits the files, as somebody who wants to do harm would write it."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        file = folder / name
        manifest["files"][name] = {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def change_json(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_newer_format_is_refused_by_name(bundle):
    change_json(bundle / "manifest.json", version=VERSION + 1)

    with pytest.raises(
        BundleError, match=f"format version {VERSION + 1}; .* versions up to {VERSION}"
    ):
        Recommender.from_pretrained(bundle)


HUGE = 10**9


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("hidden_size", 2 * 10**6, "does not fit"),
        ("MAX_ITEM_LIST_LENGTH", HUGE, "does not fit"),
        ("inner_size", HUGE, "does not fit"),
        ("n_layers", HUGE, "n_layers is 1000000000, which its parameters do not fit"),
        ("n_experts", HUGE, "n_experts is 1000000000"),
        ("data_path", "/etc", r"its configuration has \['data_path'\]"),
        ("teacher", "__import__('os').system('true')", "'teacher'"),
        ("word_drop_features", "../../secret", r"its configuration has \['word_drop_features'\]"),
        ("hidden_size", "8", "'hidden_size' is '8'"),
        ("n_heads", 3, "heads"),
    ],
)  # fmt: skip
def test_a_configuration_that_would_do_harm_is_refused(key, value, message, bundle):
    config = json.loads((bundle / "config.json").read_text())
    config["config"][key] = value
    (bundle / "config.json").write_text(json.dumps(config))
    sign(bundle)

    with pytest.raises(UserError, match=message):
        Recommender.from_pretrained(bundle)


def test_a_model_of_ids_alone_is_a_bundle_too(trained, tmp_path):
    run = trained("SASRecPlus", modalities=[])
    Recommender.from_pretrained(run.result.checkpoint).save_pretrained(tmp_path / "b")

    table = Recommender.from_pretrained(tmp_path / "b").recommend(HISTORIES)

    assert table.equals(Recommender.from_pretrained(run.result.checkpoint).recommend(HISTORIES))


def test_a_key_for_training_alone_opens_no_file(trained, tmp_path):
    Recommender.from_pretrained(trained("MISSRec").result.checkpoint).save_pretrained(
        tmp_path / "b"
    )
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["config"]["word_drop_features"] is None
    config["config"]["word_drop_features"] = "../../secret"
    (tmp_path / "b" / "config.json").write_text(json.dumps(config))
    sign(tmp_path / "b")

    assert Recommender.from_pretrained(tmp_path / "b").model.word_dropped is None


@pytest.mark.parametrize("model", ["SASRec", "KD_DAGFM", "../evil", "my_module:Mine", "os"])
def test_only_our_models_are_built(model, bundle):
    change_json(bundle / "config.json", model=model)
    sign(bundle)

    with pytest.raises(BundleError, match="known models are .*MISSRec, MMM4Rec, "):
        Recommender.from_pretrained(bundle)


@pytest.mark.parametrize(
    "tokens",
    [[], ["i1"] * 13, list(range(13)), {"a": 1}, None, ["x" * 1000] + [f"i{i}" for i in range(11)]],
)
def test_items_that_do_not_fit_are_refused(tokens, bundle):
    change_json(bundle / "items.json", item=tokens)
    sign(bundle)

    with pytest.raises(
        BundleError, match=r"damaged: items\.json (and items\.safetensors|or config)"
    ):
        Recommender.from_pretrained(bundle)


@pytest.mark.parametrize("changed", ["missing", "integer", "short", "no counts", "no popularity"])
def test_features_that_do_not_fit_are_refused(changed, bundle):
    items = load_file(bundle / "items.safetensors")
    if changed == "missing":
        del items["text.feature"]
    elif changed == "integer":
        items["text.feature"] = items["text.feature"].long()
    elif changed == "short":
        items["text.present"] = items["text.present"][:-1].clone()
    else:
        del items[changed.removeprefix("no ")]
    save_file(items, bundle / "items.safetensors")
    sign(bundle)

    with pytest.raises(BundleError, match="damaged: its items|do not fit"):
        Recommender.from_pretrained(bundle)


def test_parameters_of_another_model_are_refused(bundle, trained, tmp_path):
    other = Recommender.from_pretrained(trained("MISSRec").result.checkpoint)
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", bundle / "model.safetensors")
    sign(bundle)

    with pytest.raises(UserError, match="its parameters are not those of the model"):
        Recommender.from_pretrained(bundle)


def test_deeply_nested_json_is_refused(bundle):
    (bundle / "config.json").write_text("[" * 100_000 + "]" * 100_000)
    sign(bundle)

    with pytest.raises(BundleError, match="not JSON"):
        Recommender.from_pretrained(bundle)


@pytest.mark.parametrize(
    "facts",
    [
        None,
        3,
        {"data": 3},
        {"data": {"name": 7}},
        {"test": {"x": {"value": "much"}}},
        {"test": {"x": {"value": 1.0, "low": 0.5}}},
        {"validation": {"ndcg@10": float("-inf")}},
    ],
)
def test_facts_of_another_form_are_left_out_of_the_card(facts, bundle, tmp_path):
    change_json(bundle / "config.json", facts=facts)
    sign(bundle)

    Recommender.from_pretrained(bundle).save_pretrained(tmp_path / "again")

    card = (tmp_path / "again" / "README.md").read_text()
    assert "The model ranks 12 items." in card and "| validation |" not in card


def test_a_folder_that_is_not_a_bundle_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a bundle of recbole_mm"):
        Recommender.from_pretrained(tmp_path)
    with pytest.raises(
        UserError, match="does not exist; give a checkpoint, the folder of a bundle"
    ):
        Recommender.from_pretrained(tmp_path / "nothing")
    Path("bundles").mkdir()
    for name in ("bundles/Toys", "saved/Toys.pth"):  # the hub is not asked for these
        with pytest.raises(UserError, match=f"{name} does not exist; give a checkpoint"):
            Recommender.from_pretrained(name)


def test_a_bundle_is_a_pre_model_path(bundle, toy, caplog):
    caplog.set_level(logging.INFO)
    settings = {**toy, **TINY, "n_heads": 2, "n_experts": 2, "epochs": 1}

    result = run("UniSRec", config_dict={**settings, "pre_model_path": str(bundle)})

    assert result.pre_model_path == str(bundle)
    assert "transferred" in caplog.text
    with pytest.raises(UserError, match="is a checkpoint of UniSRec and cannot start a MISSRec"):
        run("MISSRec", config_dict={**toy, **TINY, "n_heads": 2, "pre_model_path": str(bundle)})
    with pytest.raises(UserError, match="n_heads: 2 in the checkpoint, 4 here"):
        run("UniSRec", config_dict={**settings, "n_heads": 4, "pre_model_path": str(bundle)})


def test_it_goes_to_the_hub_and_back(bundle, tmp_path, monkeypatch):
    """The hub is a folder here: what is sent is what is read."""
    remote = tmp_path / "remote"
    uploads = []

    class Api:
        def __init__(self, token=None):
            pass

        def create_repo(self, repo_id, **_):
            return type("Repo", (), {"repo_id": repo_id})

        def upload_folder(self, *, folder_path, repo_id, **_):
            shutil.copytree(folder_path, remote / repo_id)
            uploads.append(repo_id)
            return "url"

    def download(repo_id, *, allow_patterns, **_):
        assert set(FILES) | {"README.md"} == set(allow_patterns)
        return str(remote / repo_id)

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download",
        lambda repo_id, filename, **_: str(remote / repo_id / filename),
    )
    monkeypatch.setattr("recbole_mm.recommend.recommender.snapshot_download", download)
    original = Recommender.from_pretrained(bundle)

    original.push_to_hub("shop/toys")
    again = Recommender.from_pretrained("shop/toys")

    assert uploads == ["shop/toys"]
    assert again.recommend(HISTORIES).equals(original.recommend(HISTORIES))


def test_a_repository_that_cannot_be_reached_is_one_line(bundle, monkeypatch):
    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", offline)
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi.create_repo", offline)

    with pytest.raises(UserError, match="shop/toys: no checkpoint or bundle here.*no network"):
        Recommender.from_pretrained("shop/toys")
    with pytest.raises(UserError, match="shop/toys: cannot be uploaded to the hub: no network"):
        Recommender.from_pretrained(bundle).push_to_hub("shop/toys")
