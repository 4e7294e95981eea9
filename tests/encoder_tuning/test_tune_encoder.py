"""Encoders that are tuned on the training part: tiny, built on disk as sentence-transformers saves them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

transformers = pytest.importorskip("transformers", reason="needs recbole_mm[tune-encoder]")
for package in ("sentence_transformers", "accelerate", "datasets", "peft"):
    pytest.importorskip(package, reason="needs recbole_mm[tune-encoder]")

from datasets import Dataset
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from small_encoders import save_text_encoder

from recbole_mm import cli
from recbole_mm.config.load import load_config
from recbole_mm.data.feature_files import feature_path, read_feature_info, read_feature_rows
from recbole_mm.encoder_tuning import trainer
from recbole_mm.prepare.open_encoder import open_encoder
from recbole_mm.recommend.catalog import Catalog
from recbole_mm.recommend.encoding import EncoderChoice
from recbole_mm.recommend.new_items import read_new_items
from recbole_mm.run.run import Run
from recbole_mm.tools import extras
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.interrupts import INTERRUPTED
from recbole_mm.tools.records import write_record
from tests.tiny import TINY

N_ITEMS, N_USERS, LENGTH = 12, 40, 7
FAST = ["--epochs=2", "--batch-size=8", "--learning-rate=1e-2", "--device=cpu"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A text encoder that knows a word for every number."""
    folder = tmp_path_factory.mktemp("encoders") / "words"
    return save_text_encoder(folder, [str(number) for number in range(300)])


def write_dataset(items_of_users, name="toy"):
    """Items are numbers, and so are their titles; user and step decide the time."""
    rows = ["user_id:token\titem_id:token\ttimestamp:float"]
    for user, items in enumerate(items_of_users):
        rows += [f"u{user}\ti{item}\t{step}" for step, item in enumerate(items)]
    write_files(name, rows, sorted({item for items in items_of_users for item in items}))


def write_files(name, rows, items):
    folder = Path("dataset", name)
    folder.mkdir(parents=True)
    (folder / f"{name}.inter").write_text("\n".join(rows) + "\n")
    lines = ["item_id:token\ttitle:token_seq", *(f"i{item}\t{item}" for item in items)]
    (folder / f"{name}.item").write_text("\n".join(lines) + "\n")


@pytest.fixture
def circle():
    """The next item is always the following one on a circle."""
    write_dataset([[(u + step) % N_ITEMS for step in range(LENGTH)] for u in range(N_USERS)], "toy")


def tune(encoder, *options, name="toy"):
    return cli.main(["tune-encoder", name, f"--encoder={encoder}", *FAST, *options])


def cosines(folder):
    """Of the texts of all items with each other."""
    vectors, _ = open_encoder(str(folder), device="cpu").texts([str(i) for i in range(N_ITEMS)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors @ vectors.T


def rank_of_next(folder):
    """Mean place of the next item among the items nearest to each, 0 is the best."""
    near = cosines(folder)
    np.fill_diagonal(near, -2)
    following = near[np.arange(N_ITEMS), (np.arange(N_ITEMS) + 1) % N_ITEMS]
    return (near > following[:, None]).sum(1).mean()


@pytest.mark.usefixtures("circle")
@pytest.mark.parametrize(
    "more", [(), ("--batch-size=128", "--epochs=20"), ("--lora-rank=8", "--epochs=15")]
)
def test_a_tuned_encoder_puts_next_items_near_each_other(encoder, tmp_path, more):
    assert tune(encoder, "--epochs=6", *more) == cli.OK

    tuned = tmp_path / "encoders" / "toy-words"
    assert rank_of_next(tuned) < 2 < rank_of_next(encoder)
    endings = {path.suffix for path in tuned.rglob("*") if path.is_file()}
    assert endings <= {".json", ".safetensors", ".txt"}
    assert not list(tuned.rglob("*adapter*"))
    assert [path.name for path in tuned.parent.iterdir()] == ["toy-words"]


@pytest.mark.usefixtures("circle")
def test_both_texts_are_modalities_of_one_model_with_the_split_of_the_tuning(
    encoder, tmp_path, capsys
):
    tune(encoder)
    assert cli.main(["extract", "toy", f"--encoder={encoder}", "--modalities", "text"]) == cli.OK
    assert cli.main(["extract", "toy", "--encoder=encoders/toy-words"]) == cli.OK

    record = json.loads(
        (tmp_path / "encoders" / "toy-words" / "recbole_mm_tuning.json").read_text()
    )
    assert record["base"]["encoder"] == str(encoder)
    assert record["base"]["revision"] == open_encoder(str(encoder), device="cpu").revision
    assert record["split"]["events"] == N_USERS * (LENGTH - 2)
    assert record["result"]["pairs"] == N_USERS * (LENGTH - 3)
    info = read_feature_info(feature_path("dataset/toy", "toy", "tuned_text"))
    assert info["encoder"] == "encoders/toy-words"
    assert info["tuning"]["split"] == record["split"]
    assert info["input"] == ["title", "brand", "categories", "description"]

    config = load_config("UniSRec", "toy", config_dict=TINY)
    run = Run(config)
    assert run.splits.train.dataset.modalities == ["text", "tuned_text"]
    capsys.readouterr()
    for model in ("UniSRec", "MMM4Rec"):
        leaking = [
            f"--model={model}",
            "--dataset=toy",
            "--eval_args={'split': {'LS': 'test_only'}}",
        ]
        assert cli.main(leaking) == cli.BAD_INPUT
        assert "its encoder was tuned on 200 events of 40 users of 'toy'" in capsys.readouterr().err
    assert cli.main([*leaking, "--modalities=[text]", "--epochs=0"]) == cli.OK

    train = run.splits.train.dataset
    catalog = Catalog.of_dataset(train, train.item_counts())
    table = pl.DataFrame({"item": ["like-i3"], "title": ["3"]})
    new, _ = read_new_items(catalog, table, encoder=EncoderChoice("cpu"))
    _, present = read_feature_rows(
        feature_path("dataset/toy", "toy", "tuned_text"), ["[PAD]", "i3"]
    )
    assert present.tolist() == [False, True]
    known = catalog.features["tuned_text"].values[catalog.tokens.to_list().index("i3")]
    torch.testing.assert_close(new.features["tuned_text"].values[0], known)


@pytest.fixture
def seen(monkeypatch):
    """Every text that goes into the encoder while it is tuned, item by item."""
    texts = set()
    convert = trainer.PairTexts.__call__

    def watched(self, rows):
        converted = convert(self, rows)
        for column in ("anchor", "positive"):
            texts.update(text for joined in converted[column] for text in joined.split("\n"))
        return converted

    monkeypatch.setattr(trainer.PairTexts, "__call__", watched)
    return texts


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(
    ("split", "n_left_out"),
    [((), 2), (("--eval_args={'split': {'LS': 'test_only'}}",), 1),
     (("--eval_args={'split': {'RS': [0.5, 0.25, 0.25]}, 'group_by': 'none'}",), 4)],
)  # fmt: skip
def test_no_validation_or_test_target_enters_the_tuning(encoder, seen, window, split, n_left_out):
    """Every event has an item of its own, so that each text belongs to one event."""
    write_dataset([[10 * user + step for step in range(8)] for user in range(20)])

    assert tune(encoder, f"--window={window}", "--epochs=1", *split) == cli.OK

    kept = {str(10 * user + step) for user in range(20) for step in range(8 - n_left_out)}
    assert seen == kept


@pytest.mark.usefixtures("circle")
def test_held_out_items_do_not_enter_the_tuning(encoder, seen):
    assert tune(encoder, "--held_out_items=0.25", "--window=3") == cli.OK

    assert len(seen) == N_ITEMS - 3


def interrupt_at(step):
    def interrupt(self, args, state, control, **kwargs):  # noqa: ARG001
        if state.global_step == step:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.usefixtures("circle")
def test_an_interrupted_tuning_resumes_to_the_same_weights(encoder, monkeypatch, capsys):
    tune(encoder, "--out=whole", "--lora-rank=2")
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    with monkeypatch.context() as patched:
        patched.setattr(trainer._Progress, "on_step_end", interrupt_at(47))
        assert tune(encoder, "--out=resumed", "--lora-rank=2") == INTERRUPTED
    assert tune(encoder, "--out=resumed", "--lora-rank=2") == cli.OK

    assert "resumes after 46 of 70 batches" in capsys.readouterr().out
    whole, resumed = (load_file(f"{name}/model.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.usefixtures("circle")
def test_a_tuning_that_is_interrupted_while_it_is_saved_gives_the_same_files(encoder, monkeypatch):
    """The second process trains nothing: its tokenizer has not seen a batch."""
    tune(encoder, "--out=whole", "--epochs=1")
    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    with monkeypatch.context() as patched:
        patched.setattr("recbole_mm.encoder_tuning.tune.write_tuning", interrupt)
        assert tune(encoder, "--out=resumed", "--epochs=1") == INTERRUPTED
    assert tune(encoder, "--out=resumed", "--epochs=1") == cli.OK

    whole, resumed = (
        {path.name: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
        for folder in ("whole", "resumed")
    )
    record = "recbole_mm_tuning.json"  # with the loss of the batches of each process
    assert whole.pop(record) and resumed.pop(record)
    assert resumed == whole
    assert open_encoder("whole").revision == open_encoder("resumed").revision


def write_checkpoint(folder, step, **files):
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name, content in files.items():
        (checkpoint / name).write_bytes(content)
    write_record(checkpoint / trainer.SEAL, trainer._hashes(checkpoint))
    return checkpoint


def test_a_half_written_or_damaged_checkpoint_is_not_resumed_from(tmp_path):
    nine, ten, eleven, twelve = (write_checkpoint(tmp_path, n, weights=b"1") for n in range(9, 13))
    assert trainer.latest_checkpoint(tmp_path) == twelve

    (eleven / trainer.SEAL).unlink()
    (twelve / "weights").write_bytes(b"2")
    assert trainer.latest_checkpoint(tmp_path) == ten
    (ten / trainer.SEAL).write_text("{")
    assert trainer.latest_checkpoint(tmp_path) == nine
    assert trainer.latest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.usefixtures("circle")
def test_a_pickle_in_a_checkpoint_is_not_executed(encoder, tmp_path, monkeypatch, capsys):
    class Harm:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harmed",))

    monkeypatch.setattr(trainer, "SECONDS_BETWEEN_CHECKPOINTS", 0)
    monkeypatch.setattr(trainer._Progress, "on_step_end", interrupt_at(2))
    assert tune(encoder) == INTERRUPTED
    (checkpoint,) = tmp_path.glob("encoders/.toy-words.partial/checkpoint-*")
    torch.save(Harm(), checkpoint / "optimizer.pt")
    write_record(checkpoint / trainer.SEAL, trainer._hashes(checkpoint))

    assert tune(encoder) == cli.BAD_INPUT
    assert "holds more than tensors, which is not loaded; delete it" in capsys.readouterr().err
    assert not (tmp_path / "harmed").exists()


@pytest.mark.usefixtures("circle")
def test_a_finished_tuning_is_not_repeated_and_not_overwritten(encoder, capsys, monkeypatch):
    tune(encoder)
    monkeypatch.setattr(trainer, "tune", None)  # fails if it is called

    assert tune(encoder) == cli.OK
    assert "exists already, tuned in the same way" in capsys.readouterr().out
    assert tune(encoder, "--window=2") == cli.BAD_INPUT
    assert "tuned with other settings (window: 1 then)" in capsys.readouterr().err
    assert tune(encoder, "--out=dataset") == cli.BAD_INPUT
    assert "dataset: it exists and is not a tuned encoder" in capsys.readouterr().err


@pytest.mark.usefixtures("circle")
def test_an_encoder_that_knows_another_split_is_not_tuned_further(encoder, capsys):
    tune(encoder)
    further = "encoders/toy-words"

    assert tune(further, "--out=again") == cli.OK
    assert tune(further, "--out=other", "--held_out_items=0.25") == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert "encoder 'encoders/toy-words': its encoder was tuned on 200 events" in error
    assert "held_out_items: 0.0 then, 0.25 now" in error


@pytest.mark.usefixtures("circle")
def test_weights_that_the_record_is_not_of_are_refused(encoder):
    tune(encoder)
    path = "encoders/toy-words/model.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)

    with pytest.raises(UserError, match="describes other weights than those in the folder"):
        open_encoder("encoders/toy-words", device="cpu")


@pytest.mark.usefixtures("circle")
def test_vectors_copied_to_another_data_set_keep_the_record(encoder, capsys):
    tune(encoder)
    cli.main(["extract", "toy", "--encoder=encoders/toy-words"])
    write_dataset([[(u + step) % N_ITEMS for step in range(LENGTH)] for u in range(9)], "other")
    vectors = "mine=dataset/toy/toy.tuned_text.npz"
    assert cli.main(["extract", "other", "--modality", vectors]) == cli.OK

    assert cli.main(["--model=UniSRec", "--dataset=other", "--epochs=0"]) == cli.BAD_INPUT
    assert "other.mine.npz: its encoder was tuned on 200 events" in capsys.readouterr().err


@pytest.mark.usefixtures("circle")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--window=0"], "--window=0: it must be 1 or more"),
        (["--batch_size=1"], "--batch-size=1: it must be 2 or more"),
        (["--temperature=0"], "--temperature=0.0: it must be a number above 0"),
        (["--learning-rate=nan"], "--learning-rate=nan: it must be a number above 0"),
        (["--text-fields", "brand"], "no item has a text in the columns brand"),
        (["--tie_ordr=item"], "tie_order"),
        (["--modalities=[text]"], "--modalities: it has no effect on the pairs of tune-encoder"),
        (["--encoder=nowhere/at/all"], "encoder 'nowhere/at/all' cannot be loaded"),
    ],
)
def test_what_cannot_be_used_is_an_error_of_one_line(encoder, capsys, options, words):
    assert tune(encoder, *options) == cli.BAD_INPUT

    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("circle")
def test_lora_needs_a_transformer(encoder, tmp_path, capsys):
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(encoder)).backend_tokenizer
    words = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    words.save(str(tmp_path / "static"))

    assert tune(tmp_path / "static", "--lora-rank=4") == cli.BAD_INPUT
    assert "--lora-rank=4: the encoder has no transformer" in capsys.readouterr().err
    assert tune(tmp_path / "static") == cli.OK


@pytest.mark.usefixtures("circle")
def test_an_encoder_without_a_configuration_is_refused(encoder, capsys):
    assert tune(encoder.with_name("plain")) == cli.BAD_INPUT

    assert "has no sentence-transformers configuration (modules.json)" in capsys.readouterr().err


@pytest.mark.usefixtures("circle")
def test_a_loss_that_is_not_a_number_is_reported(encoder, capsys):
    message = "the loss or a weight is not a finite number: lower --learning-rate"
    assert tune(encoder, "--learning-rate=1e30") == cli.RUN_FAILED
    assert message in capsys.readouterr().err

    # the loss of the only step is that of the weights before it
    assert tune(encoder, "--learning-rate=1e38", "--max-pairs=4", "--epochs=1") == cli.RUN_FAILED
    assert message in capsys.readouterr().err
    assert not Path("encoders", "toy-words").exists()


@pytest.mark.usefixtures("circle")
def test_one_batch_of_pairs_changes_the_weights(encoder):
    assert tune(encoder, "--max-pairs=4", "--epochs=1") == cli.OK

    files = [next(Path(folder).rglob("model.safetensors")) for folder in (encoder, "encoders")]
    before, after = map(load_file, files)
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_an_epoch_has_all_pairs_whatever_texts_are_repeated():
    texts = [str(number) for number in range(5)]
    pairs = {"anchor": texts * 8, "positive": [text + " next" for text in texts] * 8}
    sampler = trainer._BatchesOfAllPairs(Dataset.from_dict(pairs), batch_size=16, drop_last=False)

    batches = list(sampler)

    assert len(sampler) == len(batches) == 8
    assert sorted(index for batch in batches for index in batch) == list(range(40))
    sampler.set_epoch(1)
    assert len(sampler) == 8


@pytest.mark.usefixtures("circle")
def test_every_pair_is_trained_on_in_every_epoch(encoder, monkeypatch):
    seen = []
    forward = trainer.losses.MultipleNegativesRankingLoss.forward

    def counted(loss, features, labels):
        seen.append(len(features[0]["input_ids"]))
        return forward(loss, features, labels)

    monkeypatch.setattr(trainer.losses.MultipleNegativesRankingLoss, "forward", counted)
    tune(encoder, "--epochs=1")

    assert sum(seen) == N_USERS * (LENGTH - 3)


@pytest.mark.usefixtures("circle")
def test_what_a_dead_process_has_left_beside_a_finished_encoder_is_removed(encoder):
    tune(encoder)
    left = Path("encoders", ".toy-words.partial")
    left.mkdir()
    (left / "lock").write_text("")

    assert tune(encoder) == cli.OK
    assert not left.exists()


@pytest.mark.parametrize("missing", ["peft", "datasets"])
def test_a_missing_package_is_named_with_its_install_line(encoder, monkeypatch, missing, capsys):
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == missing else find(name))

    assert tune(encoder, "--lora-rank=4") == cli.BAD_INPUT
    error = capsys.readouterr().err
    assert f"tune-encoder needs {missing}: pip install 'recbole_mm[tune-encoder]'" in error
