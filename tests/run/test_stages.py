import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import PRETRAIN, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.data import reading
from recbole_mm.data.atomic_files import AtomicFile
from recbole_mm.data.feature_files import feature_path, write_item_features
from recbole_mm.run.result_tables import result_table
from recbole_mm.run.run import run
from recbole_mm.run.stages import plan_stages, run_stages
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.locks import Locked
from recbole_mm.training.trainer import MultiModalTrainer
from recbole_mm.transfer.authors import import_authors_checkpoint

TINY = {**TINY_MMM4REC, "model": "MMM4Rec", "epochs": 4}


def staged(toy, *stages, **common):
    return {**TINY, **toy, **common, "stages": [dict(stage) for stage in stages]}


def losses_of(results):
    return [(r.history[-1]["valid_score"], r.test_result) for r in results]


def test_a_finetune_stage_starts_from_the_nearest_pretrain_stage_above(toy):
    plan = plan_stages(
        config_dict=staged(
            toy,
            PRETRAIN,
            {"model": "MISSRec", "n_heads": 2, **PRETRAIN},
            {**PRETRAIN, "seed": 1},
            {"freeze": ["encoder_layers.*"]},
            {"pre_model_path": None},
            {"pre_model_path": "given.pth"},
            {"model": "MISSRec", "n_heads": 2},
        )
    )
    assert [stage.source for stage in plan] == [None, None, None, 2, None, None, 1]
    assert plan[5].config["pre_model_path"] == "given.pth"


@pytest.mark.parametrize("ending", ["inter", "text.npz"])
def test_a_stage_on_other_data_is_another_stage(toy, tmp_path, ending):
    (before,) = plan_stages(config_dict=staged(toy, PRETRAIN))
    name = before.name
    path = tmp_path / "dataset" / "toy" / f"toy.{ending}"
    if ending == "inter":
        path.write_text(path.read_text() + "u0\ti1\t1500000000\n")
    else:
        write_item_features(path, ["i1", "i2"], np.ones((2, 4), np.float32))

    (after,) = plan_stages(config_dict=staged(toy, PRETRAIN))

    assert after.name != name


@pytest.mark.parametrize("model", ["MMM4Rec", "MISSRec"])
def test_finished_stages_are_not_run_again(toy, model, monkeypatch):
    stages = staged(toy, PRETRAIN, {}, {"epochs": 0, "use_item_id": False}, model=model, n_heads=2)
    results = run_stages(config_dict=stages)
    assert [r.epochs for r in results] == [4, 4, 0]
    assert results[2].best_valid_result["ndcg@10"] == results[2].best_valid_score > 0
    assert not list(Path("saved").glob("*.progress.pth"))

    first = Path(results[0].checkpoint)  # was interrupted at the end
    left = [first.with_suffix(".progress.pth"), first.with_name(f".{first.stem}.json.lock")]
    for path in left:
        path.touch()
    monkeypatch.setattr(MultiModalTrainer, "_train_epoch", None)  # nothing is trained now
    assert run_stages(config_dict=stages) == results
    assert not any(path.exists() for path in left)
    with pytest.raises(TypeError):
        run_stages(config_dict={**stages, "seed": 1})


def test_equal_stages_give_equal_files_so_that_those_after_them_are_not_run_again(toy):
    (pretraining,) = plan_stages(config_dict=staged(toy, PRETRAIN, epochs=1))
    checkpoint = Path(pretraining.run().checkpoint)
    before = checkpoint.read_bytes()
    for path in checkpoint.parent.glob("*"):
        path.unlink()

    assert Path(pretraining.run().checkpoint) == checkpoint
    assert checkpoint.read_bytes() == before


def test_a_stage_that_another_run_works_on_is_refused(toy):
    (stage,) = plan_stages(config_dict=staged(toy, PRETRAIN))
    with stage._alone("stage 1 of 1"):
        (second,) = plan_stages(config_dict=staged(toy, PRETRAIN))
        with pytest.raises(Locked, match="stage 1 of 1 .*another run is working on it"):
            second.run("stage 1 of 1")


@pytest.mark.parametrize("model", ["MMM4Rec", "MISSRec"])
@pytest.mark.parametrize("killed_in", [2, 5])
def test_a_killed_run_goes_on_as_if_it_had_not_been_killed(toy, model, killed_in, monkeypatch):
    second = {"learner": "adam", "ema_epochs": 1}
    stages = staged(toy, PRETRAIN, second, model=model, n_heads=2)
    reference = run_stages(config_dict={**stages, "checkpoint_dir": "reference"})
    original, calls = torch.optim.Optimizer.zero_grad, []

    def killed(self, *args, **kwargs):
        calls.append(0)
        if len(calls) == 3 * killed_in + 2:  # in the middle of an epoch of three batches
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", killed)
    with pytest.raises(KeyboardInterrupt, match="finished stages are kept; the same command"):
        run_stages(config_dict=stages)
    results = run_stages(config_dict=stages)

    assert losses_of(results) == losses_of(reference)
    assert [r.best_epoch for r in results] == [r.best_epoch for r in reference]
    for result, other in zip(results, reference, strict=True):
        own = torch.load(result.checkpoint, weights_only=True)["state_dict"]
        wanted = torch.load(other.checkpoint, weights_only=True)["state_dict"]
        assert all(torch.equal(own[name], wanted[name]) for name in wanted)


def test_a_stage_that_starts_from_other_weights_is_another_stage(toy):
    first = run_stages(config_dict=staged(toy, PRETRAIN, {}))
    again = run_stages(config_dict=staged(toy, {**PRETRAIN, "seed": 7}, {}))
    assert first[1].checkpoint != again[1].checkpoint
    record = json.loads(Path(first[1].checkpoint).with_suffix(".json").read_text())
    assert record["config"]["pre_model_path"] == first[0].checkpoint


def test_orders_and_lists_that_cannot_be_run_are_refused(toy):
    frozen = {"freeze": ["encoder_layers.*"]}
    with pytest.raises(ConfigError, match="stage 1 .*freeze but nothing to start from"):
        plan_stages(config_dict=staged(toy, frozen))
    with pytest.raises(ConfigError, match="comes before its pretrain stage 2"):
        plan_stages(config_dict=staged(toy, {}, PRETRAIN))
    with pytest.raises(ConfigError, match="must be a list of overlays"):
        plan_stages(config_dict={**TINY, **toy, "stages": {}})
    with pytest.raises(ConfigError, match="must be a list of mappings"):
        plan_stages(config_dict={**TINY, **toy, "stages": ["pretrain"]})
    with pytest.raises(ConfigError, match="stage 1: unknown key 'frieze'; did you mean"):
        plan_stages(config_dict=staged(toy, {"frieze": []}))
    with pytest.raises(ConfigError, match="lists stages"):
        run(config_dict=staged(toy, PRETRAIN))
    with pytest.raises(ConfigError, match=r"stage 1 \(SASRec.*only .*MISSRec, .* transfer"):
        plan_stages(config_dict=staged(toy, PRETRAIN, model="SASRec"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"freeze": ["encoderlayers*"]}, "'encoderlayers\\*' does not match any parameter"),
        ({"train_stage": "finetun"}, "'train_stage' is 'finetun'; it must be one of"),
        ({"softmax": "half"}, "'softmax' is 'half'; it must be one of"),
        ({"modalities": ["audio"]}, "audio"),
        ({"hidden_size": 24}, "the pretrain stage that it starts from: .*with another shape: "),
        ({"mask_missing": False}, "would compute something else with these settings"),
        ({"pre_model_path": "nowhere.pth"}, "'nowhere.pth' does not exist"),
    ],
)
def test_what_is_wrong_with_a_later_stage_is_known_before_the_first(toy, wrong, message):
    with pytest.raises(UserError, match=rf"^stage 2\b.*{message}"):
        run_stages(config_dict=staged(toy, PRETRAIN, wrong))
    assert not Path("saved").exists()


def test_no_file_is_parsed_twice_in_a_run_of_stages(toy, tmp_path, monkeypatch):
    folder = tmp_path / "dataset" / "other"
    folder.mkdir()
    for path in (tmp_path / "dataset" / "toy").iterdir():
        (folder / path.name.replace("toy", "other")).write_bytes(path.read_bytes())
    with open(folder / "other.inter", "a") as file:
        file.write("u0\ti1\t1500000000\n")
    parsed = []

    class Counted(AtomicFile):
        def __init__(self, path, *arguments):
            parsed.append(Path(path).name)
            super().__init__(path, *arguments)

    monkeypatch.setattr(reading, "AtomicFile", Counted)

    results = run_stages(config_dict=staged(toy, PRETRAIN, {"dataset": "other"}, {}, epochs=1))

    assert [result.dataset for result in results] == ["toy", "other", "toy"]
    assert sorted(parsed) == ["other.inter", "toy.inter"]


def test_the_command_runs_the_stages_of_a_file(toy, capsys, caplog):
    caplog.set_level("INFO")
    Path("transfer.yaml").write_text(yaml.safe_dump(staged(toy, PRETRAIN, {}, epochs=1)))

    assert main(["--config_files=transfer.yaml", "--seed=3"]) == 0

    tables = capsys.readouterr().out
    assert "pretrain on toy " in tables
    assert "finetune on toy with ID, transferred" in tables
    assert "finetune on toy with ID, transferred" in caplog.text
    assert main(["--config_files=transfer.yaml", "--freeze=['nothing.*']"]) == 2
    assert "freeze: 'nothing.*' does not match any parameter" in capsys.readouterr().err


GOLDEN = {
    "MMM4Rec": ("mmm4rec_cases", "layers2_g8", "model", (24, 20)),
    "MISSRec": ("missrec_cases", "trans_dinst_add", "state_dict", (12, 10)),
}
LIKE_GOLDEN = {
    "MMM4Rec": {"head_dim": 4, "d_state": 8, "n_groups": 8, "use_time": True, "n_layers": 1},
    "MISSRec": {"n_heads": 4, "item_mm_fusion": "dynamic_instance"},
}


@pytest.mark.parametrize("model", GOLDEN)
def test_a_released_checkpoint_starts_a_finetune_stage(toy, model, golden_dir):
    vectors, case, entry, widths = GOLDEN[model]
    arrays = np.load(golden_dir / f"{vectors}.npz")
    prefix = f"{case}/state/"
    state = {
        key.removeprefix(prefix): torch.from_numpy(arrays[key])
        for key in arrays.files
        if key.startswith(prefix)
    }
    torch.save({entry: state, "config": Path("an/object")}, "released.ckpt")
    for modality, width in zip(("text", "image"), widths, strict=True):
        path = feature_path(Path(toy["data_path"]) / "toy", "toy", modality)
        tokens = [f"i{item}" for item in range(12)]
        write_item_features(path, tokens, np.random.default_rng(0).normal(size=(12, width)))
    renamed = import_authors_checkpoint("released.ckpt", model)
    length = 20 if model == "MMM4Rec" else len(renamed["position_embedding.weight"])
    settings = {
        "model": model,
        "pre_model_path": "released.ckpt",
        "allow_fewer_layers": True,
        "hidden_size": 16,
        "inner_size": 24,
        "MAX_ITEM_LIST_LENGTH": length,
        **LIKE_GOLDEN[model],
    }
    stages = {**TINY, **toy, **settings, "epochs": 1, "stages": [{"freeze": ["adapters.*"]}]}
    if model == "MISSRec":
        stages = {k: v for k, v in stages.items() if k not in ("head_dim", "d_state", "n_groups")}

    (result,) = run_stages(config_dict=stages)

    trained = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(trained["adapters.text.weight"], renamed["adapters.text.weight"])
    assert result.epochs == 1


@pytest.mark.parametrize("suffix", [".json", ".pth"])
def test_a_damaged_file_is_set_aside_and_the_stage_runs_again(toy, suffix, caplog):
    stages = staged(toy, PRETRAIN, epochs=1)
    (first,) = run_stages(config_dict=stages)
    file = Path(first.checkpoint).with_suffix(suffix)
    whole = file.read_bytes()
    file.write_bytes(whole[:100])

    (again,) = run_stages(config_dict=stages)

    assert again.test_result == first.test_result
    assert file.with_name(f"{file.name}.damaged").read_bytes() == whole[:100]
    assert f"renamed to {file.name}.damaged, and the work is done again" in caplog.text
    record = json.loads(Path(first.checkpoint).with_suffix(".json").read_text())
    assert record["result"]["epochs"] == 1


@pytest.mark.parametrize("model", ["SASRec", "Popularity"])
def test_a_damaged_checkpoint_of_a_recbole_trainer_is_set_aside_too(toy, model):
    stages = {**toy, "model": model, "epochs": 1, "show_progress": False, "stages": [{"seed": 3}]}
    (first,) = run_stages(config_dict=stages)
    file = Path(first.checkpoint)
    cut = file.read_bytes()[:-50]
    file.write_bytes(cut)

    (again,) = run_stages(config_dict=stages)

    assert file.with_name(f"{file.name}.damaged").read_bytes() == cut
    assert again.test_result == first.test_result
    assert run_stages(config_dict=stages) == [again]


def test_keys_that_the_model_of_a_stage_does_not_read_are_told(toy, caplog):
    stages = [{"model": "Popularity", "k": 3}, {"model": "HistoryKNN", "k": 3}]

    run_stages(config_dict={**toy, "stages": stages}, overrides={"softmax": "full"})

    warnings = [record.message for record in caplog.records if "no effect" in record.message]
    assert warnings == [
        "Popularity does not read k, softmax: no effect",
        "HistoryKNN does not read softmax: no effect",
    ]


DAMAGES = {
    "cut": lambda content, rng: content[: rng.randrange(len(content))],
    "bytes": lambda content, rng: bytes(
        rng.randrange(256) if rng.random() < 0.01 else byte for byte in content
    ),
    "a word": lambda content, rng: content.replace(
        rng.choice([b"null", b": 1", b'"', b"}", b"["]), rng.choice([b"", b'"x"', b"[]", b"9"]), 1
    ),
    "text": lambda _, rng: rng.choice([b"", b"[]", b"3", b'{"result": 3}', b"[" * 99999]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stage_is_finished_or_runs_again_whatever_happens_to_its_record(toy, damage):
    (stage,) = plan_stages(config_dict=staged(toy, PRETRAIN, epochs=1))
    finished = stage.run()
    record, rng = stage.path(".json"), random.Random(0)
    whole = record.read_bytes()
    for _ in range(50):
        record.write_bytes(DAMAGES[damage](whole, rng))
        result = stage.result()
        if result is None:
            assert not record.exists()
        else:
            assert result.checkpoint == finished.checkpoint
            assert result_table(result)


@pytest.mark.parametrize("damaged", ["progress", "progress of another model", "best", "NaN"])
def test_damaged_progress_is_set_aside_and_the_stage_starts_again(
    toy, damaged, monkeypatch, caplog
):
    (stage,) = plan_stages(config_dict=staged(toy, PRETRAIN, epochs=2))
    original = MultiModalTrainer._train_epoch

    def interrupted(self, train_data, epoch_idx, *args, **kwargs):
        loss = original(self, train_data, epoch_idx, *args, **kwargs)
        if epoch_idx == 1:
            raise KeyboardInterrupt
        return loss

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MultiModalTrainer, "_train_epoch", interrupted)
        stage.run()
    progress, best = stage.path(".progress.pth"), stage.path(".pth")
    state = torch.load(progress, weights_only=True)
    if damaged == "progress":
        progress.write_bytes(progress.read_bytes()[:-50])
    elif damaged == "best":
        best.write_bytes(best.read_bytes()[:-50])
    elif damaged == "NaN":
        next(iter(state["state_dict"].values())).fill_(torch.nan)
        torch.save(state, progress)
    else:
        del state["optimizer"]["param_groups"][0]["lr"]
        state["state_dict"].popitem()
        torch.save(state, progress)

    result = stage.run()

    assert result.epochs == 2
    assert f"{progress}: damaged" in caplog.text
    assert "resuming" not in caplog.text
    assert not progress.exists()
    fresh = run_stages(config_dict=staged(toy, PRETRAIN, epochs=2, checkpoint_dir="fresh"))
    assert losses_of([result]) == losses_of(fresh)


@pytest.mark.parametrize(
    "stages", ["3", "[]", "[1]", "[{train_stage: finetune}, {train_stage: pretrain}]"]
)
def test_a_fault_of_a_file_of_stages_names_the_file(stages, toy, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"model: MMM4Rec\ndataset: toy\ndata_path: {toy['data_path']}\nstages: {stages}\n"
    )

    with pytest.raises(ConfigError, match="mine.yaml: .*stage"):
        plan_stages(config_files=[path])


def test_each_domain_is_the_target_of_a_model_that_was_pre_trained_on_the_others(toy, tmp_path):
    root = tmp_path / "dataset"
    for name in ("left", "right"):
        (root / name).mkdir()
        for path in (root / "toy").iterdir():
            (root / name / path.name.replace("toy", name)).write_bytes(path.read_bytes())
    del toy["dataset"]
    stages = staged(toy, PRETRAIN, {"train_stage": "finetune"}, epochs=1)
    stages["leave_one_out_domains"] = ["toy", "left", "right"]

    results = run_stages(config_dict=stages)

    assert [result.dataset for result in results] == [
        "all_but_toy", "toy", "all_but_left", "left", "all_but_right", "right",
    ]  # fmt: skip
    assert results[1].pre_model_path == results[0].checkpoint
    assert results[5].pre_model_path == results[4].checkpoint
    assert not (root / "all_but_toy").exists()
