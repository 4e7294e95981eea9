import json

import numpy as np
import pytest
from PIL import Image

from recbole_mm.data.cards import CardError
from recbole_mm.data.feature_files import read_feature_info
from recbole_mm.data.features import read_item_features
from recbole_mm.prepare import chunks
from recbole_mm.prepare.commands import extract as extract_features
from recbole_mm.prepare.commands import prepare
from recbole_mm.prepare.extract import extract
from recbole_mm.prepare.inputs import InputError
from recbole_mm.prepare.prepared import PreparedDataset
from recbole_mm.prepare.ready_made import add_ready_made
from recbole_mm.tools.pictures import read_picture

TOKENS = ["[PAD]", "a", "b", "c", "d"]
TABLES = ["--no-features", "--only-items-with-interactions"]


class StandInEncoder:
    """Counts what it encodes; a text's vector is its length, a picture's its mean color."""

    revision, prompt, normalizes, tuning = "1", "", False, None
    read_picture = staticmethod(read_picture)

    def __init__(self, dies_after=None):
        self.encoded, self.dies_after = 0, dies_after

    def require(self, modality):
        pass

    def facts(self, modality):
        prompt = {"prompt": self.prompt} if self.prompt and modality == "text" else {}
        return {"encoder": "stand-in", "revision": self.revision, "pooling": "mean", **prompt}

    def texts(self, texts):
        if self.encoded == self.dies_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        return np.array([[len(text), 1.0] for text in texts], np.float32), 0

    def images(self, images):
        self.encoded += len(images)
        return np.array([np.asarray(image).mean((0, 1)) for image in images], np.float32)


@pytest.fixture
def dataset(shop, tmp_path):
    prepare.main([str(shop), "--output", str(tmp_path / "out"), *TABLES])
    return PreparedDataset(tmp_path / "out", "shop")


@pytest.fixture
def one_batch_a_chunk(monkeypatch):
    monkeypatch.setattr(chunks, "BATCHES_PER_CHUNK", 1)


def test_vectors_and_their_description_are_written(dataset):
    extract([dataset], StandInEncoder())

    image = read_item_features(dataset.path("image.npz"), TOKENS)
    assert image.values[1].tolist() == [255, 0, 0]
    info = read_feature_info(dataset.path("text.npz"))
    assert info["encoder"] == "stand-in" and info["revision"] == "1"
    assert (info["dimension"], info["normalization"], info["coverage"]) == (2, "none", 0.75)
    assert dataset.card["features"]["text"] == info


class TextsOnly(StandInEncoder):
    def require(self, modality):
        if modality != "text":
            raise InputError("cannot encode images")


def test_an_encoder_of_texts_serves_a_set_without_pictures(dataset):
    with pytest.raises(InputError, match="cannot encode images"):
        extract([dataset], TextsOnly(), ["image"])
    with pytest.raises(InputError, match="cannot encode images"):
        extract([dataset], TextsOnly())  # before it encodes the texts
    assert dataset.modalities() == []
    items = dataset.path("item").read_text().replace("images/", "").replace(".png", "")
    for token in "abc":
        items = items.replace(f"\t{token}\n", "\t\n")
    dataset.path("item").write_text(items)

    extract([PreparedDataset(dataset.folder.parent, "shop")], TextsOnly())

    assert dataset.modalities() == ["text"]


@pytest.mark.usefixtures("one_batch_a_chunk")
def test_an_interrupted_run_resumes_without_encoding_anything_twice(dataset, capsys):
    killed, second, whole = StandInEncoder(dies_after=2), StandInEncoder(), StandInEncoder()
    with pytest.raises(KeyboardInterrupt):
        extract([dataset], killed, ["text"], batch_size=1)
    assert not dataset.path("text.npz").exists()

    extract([dataset], second, ["text"], batch_size=1)

    assert (killed.encoded, second.encoded) == (2, 1)
    assert "resumes, 2 of 3 chunks exist" in capsys.readouterr().out
    resumed = dataset.path("text.npz").read_bytes()
    extract([dataset], whole, ["text"], batch_size=1)
    assert resumed == dataset.path("text.npz").read_bytes()
    assert not [path for path in dataset.folder.iterdir() if path.is_dir()]


@pytest.mark.usefixtures("one_batch_a_chunk")
def test_several_sets_interrupted_in_the_second_encode_nothing_twice(dataset, shop, tmp_path):
    prepare.main([f"{shop}", f"--output={tmp_path / 'out'}", "--name=twin", *TABLES])
    both = [dataset, PreparedDataset(tmp_path / "out", "twin")]
    killed, second = StandInEncoder(dies_after=4), StandInEncoder()
    with pytest.raises(KeyboardInterrupt):
        extract(both, killed, ["text"], batch_size=1)

    extract(both, second, ["text"], batch_size=1)

    assert (killed.encoded, second.encoded) == (4, 2)
    assert [dataset.modalities() for dataset in both] == [["text"], ["text"]]
    assert not [path for path in dataset.folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("encoder", [None, StandInEncoder()])
def test_a_set_without_a_modality_is_passed_over(dataset, tmp_path, encoder, capsys):
    folder = tmp_path / "out" / "bare"
    folder.mkdir()
    (folder / "bare.inter").write_text("user_id:token\titem_id:token\nu\ta\n")

    extract([PreparedDataset(tmp_path / "out", "bare"), dataset], encoder, ["text"])

    assert "bare: no text, no text features" in capsys.readouterr().out
    assert dataset.modalities() == ["text"]


@pytest.mark.usefixtures("one_batch_a_chunk")
def test_chunks_of_another_encoder_are_not_used(dataset):
    with pytest.raises(KeyboardInterrupt):
        extract([dataset], StandInEncoder(dies_after=2), ["text"], batch_size=1)
    other = StandInEncoder()
    other.revision = "2"

    extract([dataset], other, ["text"], batch_size=1)

    assert other.encoded == 3


@pytest.mark.parametrize("encoder", [None, StandInEncoder()])
def test_broken_and_missing_pictures_are_masked_and_listed(dataset, shop, encoder):
    whole = (shop / "images" / "a.png").read_bytes()
    (shop / "images" / "a.png").write_bytes(whole[: len(whole) // 2])
    (shop / "images" / "b.png").unlink()

    extract([dataset], encoder, ["image"])

    features = read_item_features(dataset.path("image.npz"), TOKENS)
    assert features.present.tolist() == [False, False, False, True, False]
    lines = dataset.path("image.problems.jsonl").read_text().splitlines()
    assert [json.loads(line)["item"] for line in lines] == ["a", "b"]
    assert read_feature_info(dataset.path("image.npz"))["broken"] == 2

    (shop / "images" / "a.png").write_bytes(whole)
    Image.new("RGB", (20, 10), "blue").save(shop / "images" / "b.png")
    extract([dataset], encoder, ["image"])
    assert not dataset.path("image.problems.jsonl").exists()


@pytest.mark.parametrize("encoder", [None, StandInEncoder()], ids=["embedded", "encoder"])
@pytest.mark.parametrize(
    "name", ["../../secret.png", "x" * 300 + ".png", "images/c.dds", "images/c.avif", "images"]
)
def test_a_picture_that_cannot_be_used_ends_no_other(dataset, shop, encoder, name):
    Image.new("RGB", (9, 9)).save(shop.parent / "secret.png")
    Image.new("RGB", (9, 9)).save(shop / "images" / "c.dds")
    (shop / "images" / "c.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0avif")
    item = dataset.path("item")
    item.write_text(item.read_text().replace("images/c.png", name))

    extract([PreparedDataset(dataset.folder.parent, "shop")], encoder, ["image"])

    features = read_item_features(dataset.path("image.npz"), TOKENS)
    assert features.present.tolist() == [False, True, True, False, False]


def test_a_card_that_is_not_one_is_named(dataset):
    dataset.path("card.json").write_text("[1, 2]")

    with pytest.raises(CardError, match="shop.card.json: not the card of a data set. Delete it"):
        extract([PreparedDataset(dataset.folder.parent, "shop")])


def test_nothing_but_broken_pictures_is_an_error(dataset, shop):
    for path in (shop / "images").iterdir():
        path.write_text("<html>404</html>")

    with pytest.raises(InputError, match="image: none of 3 items could be used;"):
        extract([dataset], None, ["image"])


def test_normalized_vectors_have_length_one(dataset):
    extract([dataset], StandInEncoder(), normalize=True)

    values = read_item_features(dataset.path("image.npz"), TOKENS).values[1:4].float()
    assert values.norm(dim=1).tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_items_without_interactions_have_features_too(shop, tmp_path):
    prepare.main([str(shop), f"--output={tmp_path}/out"])

    features = read_item_features(
        tmp_path / "out/shop/shop.text.npz", ["[PAD]", "never bought", "d"]
    )
    assert features.present.tolist() == [False, True, False]


@pytest.mark.usefixtures("dataset")
def test_data_sets_named_together_share_one_space(shop, tmp_path):
    prepare.main([f"{shop}", f"--output={tmp_path / 'out'}", "--name=twin", *TABLES])

    extract_features.main(["shop", "twin", f"--output={tmp_path / 'out'}"])

    for modality in ("text", "image"):
        first, second = (
            read_item_features(tmp_path / f"out/{name}/{name}.{modality}.npz", TOKENS).values
            for name in ("shop", "twin")
        )
        assert np.allclose(first, second, atol=1e-5)


def test_own_vectors_are_a_third_modality(dataset, tmp_path):
    rows = np.array([[1.0, 2], [np.nan, np.nan], [5, 6], [7, 8]])
    np.save(tmp_path / "feats.npy", rows)

    extract_features.main(
        ["shop", f"--output={tmp_path}/out", f"--modality=audio={tmp_path}/feats.npy"]
    )

    audio = read_item_features(dataset.path("audio.npz"), TOKENS)
    assert audio.present.tolist() == [False, True, False, True, True]
    assert audio.values[3].tolist() == [5, 6]


def test_own_vectors_follow_a_list_of_tokens(dataset, tmp_path):
    np.save(tmp_path / "feats.npy", np.eye(2))
    (tmp_path / "tokens.txt").write_text("d\nb\n")

    add_ready_made(dataset, "audio", tmp_path / "feats.npy", tmp_path / "tokens.txt")

    audio = read_item_features(dataset.path("audio.npz"), TOKENS)
    assert audio.values[[2, 4]].tolist() == [[0, 1], [1, 0]]


def test_the_order_that_rows_without_tokens_are_in_is_reported(dataset, tmp_path, capsys):
    np.save(tmp_path / "feats.npy", np.eye(4))

    add_ready_made(dataset, "audio", tmp_path / "feats.npy")

    first = ", ".join(dataset.items["item_id"].to_list()[:3])
    assert f"in the order of {dataset.path('item')}: {first}, ..." in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfb\nd\n",
        b"b\r\nd\r\n",
        b" b \nd\t\n\n\n",
        "\ufeffb\nd".encode(),
    ],
    ids=["mark of the encoding", "Windows", "blanks", "no end"],
)
def test_a_list_of_tokens_is_read_as_any_program_saves_it(dataset, tmp_path, content):
    np.save(tmp_path / "feats.npy", np.eye(2))
    (tmp_path / "tokens.txt").write_bytes(content)

    add_ready_made(dataset, "audio", tmp_path / "feats.npy", tmp_path / "tokens.txt")

    audio = read_item_features(dataset.path("audio.npz"), TOKENS)
    assert audio.values[[2, 4]].tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("content, words", [(b"\xe9\n", "not in UTF-8"), (None, "No such file")])
def test_a_list_of_tokens_that_cannot_be_read_is_named(dataset, tmp_path, content, words):
    np.save(tmp_path / "feats.npy", np.eye(2))
    if content:
        (tmp_path / "tokens.txt").write_bytes(content)

    with pytest.raises(InputError, match=rf"tokens.txt: {words}"):
        add_ready_made(dataset, "audio", tmp_path / "feats.npy", tmp_path / "tokens.txt")


@pytest.mark.parametrize(
    "tokens", [np.array([7, 8]), np.array([b"7", b"8"]), np.array(["7 ", "8"])]
)
def test_tokens_of_vectors_may_be_numbers_or_bytes(tmp_path, tokens):
    folder = tmp_path / "out" / "n"
    folder.mkdir(parents=True)
    (folder / "n.inter").write_text("user_id:token\titem_id:token\nu\t8\nu\t7\n")
    np.savez(tmp_path / "feats.npz", item_id=tokens, feature=[[1.0], [2.0]])

    add_ready_made(PreparedDataset(tmp_path / "out", "n"), "audio", tmp_path / "feats.npz")

    audio = read_item_features(folder / "n.audio.npz", ["[PAD]", "7", "8"])
    assert audio.values.flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "arrays, words",
    [
        (
            {"item_id": np.array(["a"], object), "feature": [[1.0]]},
            r"Python objects.*astype\(str\)",
        ),
        ({"item_id": ["a"]}, r"no array \['feature'\]"),
        ({"item_id": ["a"], "feature": [["x"]]}, "expected real numbers"),
        ({"item_id": ["a"], "feature": [1.0]}, r"shape \(1,\) for 1 item tokens"),
    ],
)
def test_arrays_that_are_not_vectors_are_named(dataset, tmp_path, arrays, words):
    np.savez(tmp_path / "feats.npz", **arrays)

    with pytest.raises(InputError, match=rf"feats.npz: .*{words}"):
        add_ready_made(dataset, "audio", tmp_path / "feats.npz")


def test_own_vectors_that_do_not_fit_are_refused(dataset, tmp_path):
    np.save(tmp_path / "feats.npy", np.eye(3))
    with pytest.raises(InputError, match=r"\(3, 3\) for 4 item tokens.*shop\.item.*--tokens"):
        add_ready_made(dataset, "audio", tmp_path / "feats.npy")
    np.savez(tmp_path / "feats.npz", item_id=["x"], feature=[[1.0]])
    with pytest.raises(InputError, match="none of the 4 items"):
        add_ready_made(dataset, "audio", tmp_path / "feats.npz")


def test_tokens_may_have_blanks_but_stand_once(dataset, tmp_path):
    np.save(tmp_path / "feats.npy", np.eye(2))
    (tmp_path / "tokens.txt").write_text("not an item\nb\n")
    add_ready_made(dataset, "audio", tmp_path / "feats.npy", tmp_path / "tokens.txt")
    assert read_item_features(dataset.path("audio.npz"), TOKENS).values[2].tolist() == [0, 1]

    (tmp_path / "tokens.txt").write_text("b\nb\n")
    with pytest.raises(InputError, match="1 duplicate tokens, e.g. 'b'"):
        add_ready_made(dataset, "audio", tmp_path / "feats.npy", tmp_path / "tokens.txt")


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_file_that_holds_no_arrays_is_named(dataset, tmp_path, ending):
    (tmp_path / f"feats.{ending}").write_text("hello")

    with pytest.raises(InputError, match=rf"feats\.{ending}: not a readable \.npy or \.npz file"):
        add_ready_made(dataset, "audio", tmp_path / f"feats.{ending}")


def test_an_encoder_and_ready_made_vectors_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        extract_features.main(["shop", "--modality=audio=a.npy", "--encoder=some"])

    assert "give one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--modality=audio=a.npy", "--normalize"], "--normalize has no effect: --modality adds"),
        (["--modality=audio=a.npy", "--prompt=x"], "--prompt has no effect: --modality adds"),
        (["--prompt=x"], "--prompt has no effect: it needs --encoder"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        extract_features.main(["shop", *options])

    assert message in capsys.readouterr().err


def test_a_data_set_that_is_not_prepared_names_the_command(tmp_path):
    with pytest.raises(InputError, match=r"recbole-mm prepare"):
        extract_features.main(["nothing", f"--output={tmp_path}"])


def cut_off(chunk):
    chunk.write_bytes(chunk.read_bytes()[:40])


def changed(value):
    def change(chunk):
        with np.load(chunk) as file:
            arrays = {**file, "value": value(file["value"])}
        np.savez(chunk, **arrays)

    return change


@pytest.mark.usefixtures("one_batch_a_chunk")
@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        changed(lambda v: v * np.nan),
        changed(lambda v: v[:, :1]),
        changed(lambda v: v[None]),
    ],
)
def test_a_damaged_chunk_is_encoded_again(dataset, damage, capsys):
    with pytest.raises(KeyboardInterrupt):
        extract([dataset], StandInEncoder(dies_after=2), ["text"], batch_size=1)
    (chunk,) = dataset.folder.glob(".shop.text.partial/000000001.npz")
    damage(chunk)
    second = StandInEncoder()

    extract([dataset], second, ["text"], batch_size=1)

    assert second.encoded == 2
    assert "000000001.npz: damaged" in capsys.readouterr().out
    values = read_item_features(dataset.path("text.npz"), TOKENS).values
    extract([dataset], StandInEncoder(), ["text"], batch_size=1)
    assert (read_item_features(dataset.path("text.npz"), TOKENS).values == values).all()


@pytest.mark.usefixtures("one_batch_a_chunk")
def test_texts_of_a_chunk_are_encoded_longest_first_and_keep_their_places(dataset, monkeypatch):
    monkeypatch.setattr(chunks, "BATCHES_PER_CHUNK", 2)
    encoder, seen = StandInEncoder(), []
    monkeypatch.setattr(
        encoder, "texts", lambda texts: (seen.append(texts), StandInEncoder().texts(texts))[1]
    )

    extract([dataset], encoder, ["text"], batch_size=2)

    (longest_first, last) = seen
    assert [len(text) for text in longest_first + last] == sorted(
        (len(text) for text in longest_first + last), reverse=True
    )
    texts = dataset.texts(("title", "brand", "description"))
    lengths = {item: len(text) for item, text in zip(dataset.items["item_id"], texts, strict=True)}
    values = read_item_features(dataset.path("text.npz"), TOKENS).values
    assert values[1:4, 0].tolist() == [lengths["a"], lengths["b"], lengths["c"]]


def test_an_encoder_that_normalizes_is_on_record_as_such(dataset):
    encoder = StandInEncoder()
    encoder.normalizes = True

    extract([dataset], encoder, ["image"])

    assert read_feature_info(dataset.path("image.npz"))["normalization"] == "l2"


def test_a_prompt_is_on_record(dataset):
    encoder = StandInEncoder()
    encoder.prompt = "passage: "

    extract([dataset], encoder)

    assert read_feature_info(dataset.path("text.npz"))["prompt"] == "passage: "
    assert "prompt" not in read_feature_info(dataset.path("image.npz"))
