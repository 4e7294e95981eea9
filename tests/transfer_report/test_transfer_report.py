import re
from pathlib import Path

import polars as pl
import pytest
import torch
import yaml
from tiny import PRETRAIN, TINY, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.config.load import load_config
from recbole_mm.reporting.parts import remove_stale
from recbole_mm.run.run import Run
from recbole_mm.tools.torch_files import save_torch
from recbole_mm.transfer_report.baselines import baseline_configs
from recbole_mm.transfer_report.report import PARTS, conditions, no_transfer_note
from recbole_mm.transfer_report.settings import (
    Condition,
    Settings,
    parse_learning_rates,
    parse_sizes,
    refuse_contradictions,
)
from recbole_mm.transfer_report.study import run_study
from recbole_mm.transfer_report.summary import summarize
from recbole_mm.transfer_report.variants import find_trials, variant_stages

MODELS = {"MMM4Rec": TINY_MMM4REC, "MISSRec": {**TINY, "n_heads": 2, "interest_ratio": 0.2}}


def write_file(toy, model, *targets, **more):
    stages = [PRETRAIN, *targets]
    common = {**toy, "model": model, **MODELS[model], "stages": stages, **more}
    Path("transfer.yaml").write_text(yaml.safe_dump(common))
    return ["transfer.yaml"]


def settings(files, **changes):
    values = {
        "config_files": files, "overrides": {}, "seeds": [1], "sizes": [1.0], "new_items": 0.0,
        "learning_rates": [], "steps": None, "metric": "NDCG@10", "mask_seen": False,
        "out": Path("transfer"),
    }  # fmt: skip
    return Settings(**values | changes)


def test_every_target_gets_its_controls_once(toy):
    files = write_file(toy, "MISSRec", {}, {"use_item_id": False}, {"pre_model_path": None})
    stages = variant_stages(files, {})
    labels, overlays = list(stages), list(stages.values())
    assert [label[1] for label in labels] == [
        *("MISSRec", "scratch", "frozen", "unfrozen", "zero-shot", "untrained"),
        *("scratch", "frozen", "unfrozen"),
    ]
    assert {target for target, _ in labels[6:]} == {"MISSRec, toy without ID"}
    assert overlays[1]["pre_model_path"] is None
    assert overlays[2]["freeze"] == ["position_embedding.*", "transformer.*"]
    validated = [overlay.get("validate_start") for overlay in overlays[1:4]]
    assert validated == [True, None, None], "a stage that the file has is not run again"
    with pytest.raises(ConfigError, match="no finetune stage starts from a pre-trained model"):
        variant_stages(write_file(toy, "MISSRec", {"pre_model_path": None}), {})


def test_a_second_stage_on_a_target_is_told_apart_by_its_number(toy):
    files = write_file(toy, "MISSRec", {}, {"modalities": ["text"]})

    stages = variant_stages(files, {})

    assert len(stages) == 1 + 5 + 5
    assert stages["MISSRec, toy (stage 3) with ID", "frozen"]["modalities"] == ["text"]
    assert stages["MISSRec, toy (stage 3)", "zero-shot"]["modalities"] == ["text"]
    assert "modalities" not in stages["MISSRec, toy with ID", "frozen"]


def test_starts_that_are_not_trained_have_no_settings_of_training(toy):
    sampled = {"softmax": "sampled", "sparse_id_updates": True, "use_item_id": True}
    files = write_file(toy, "MISSRec", sampled)

    stages = variant_stages(files, {})

    for start in ("zero-shot", "untrained"):
        overlay = {**stages["MISSRec, toy", start], "pre_model_path": None}
        assert not overlay["use_item_id"]
        Run(load_config("MISSRec", None, (), {**toy, **MODELS["MISSRec"], **overlay}))


def test_low_rank_is_for_what_is_trained_from_the_pre_trained_model_alone(toy):
    files = write_file(toy, "MISSRec", {"lora_rank": 2})

    stages = variant_stages(files, {})

    ranks = {start: overlay.get("lora_rank", 0) for (_, start), overlay in stages.items()}
    assert [start for start, rank in ranks.items() if rank] == ["unfrozen"]
    with pytest.raises(ConfigError, match="lora_rank: 2 in a stage of pre-training"):
        variant_stages(files, {"lora_rank": 2})


def test_rates_that_spare_what_was_pre_trained_are_not_those_of_random_weights(toy):
    files = write_file(toy, "MISSRec", {"group_learning_rates": {"transformer.*": 1e-6}})

    stages = variant_stages(files, {})

    rates = {start: overlay.get("group_learning_rates") for (_, start), overlay in stages.items()}
    assert rates["unfrozen"] == rates["frozen"] == {"transformer.*": 1e-6}
    assert rates["scratch"] == {}


def test_a_stage_without_an_epoch_is_refused(toy):
    with pytest.raises(ConfigError, match="epochs: 0 in the stage on toy: .*Give epochs >= 1"):
        variant_stages(write_file(toy, "MISSRec", {"epochs": 0}), {})


def test_targets_that_start_from_other_weights_are_told_apart(toy):
    files = write_file(
        toy, "MISSRec", {}, PRETRAIN | {"epochs": 2}, {}, {"freeze": ["transformer.*"]}
    )

    stages = variant_stages(files, {})

    names = [target for target, start in stages if start == "scratch"]
    assert names == [f"MISSRec, toy{n} with ID" for n in ("", " (stage 4)", " (stage 5)")]
    for name in names:
        own = [start for target, start in stages if target.startswith(name.partition(" with")[0])]
        assert {"frozen", "unfrozen", "zero-shot", "untrained"} <= set(own)
    assert len(stages) == 2 + 3 * 5


@pytest.mark.parametrize("condition", [{"train_users": 0.1}, {"held_out_items": 0.2}])
def test_what_the_report_varies_is_not_set_by_a_stage(toy, condition):
    files = write_file(toy, "MISSRec", condition)

    with pytest.raises(ConfigError, match="remove it and give --(sizes|new_items)"):
        variant_stages(files, {})


def test_baselines_read_the_files_as_the_target_is_read(toy):
    config = load_config("MISSRec", None, (), {**toy, "field_separator": ",", "data_cache": "none"})

    for baseline in baseline_configs(config, ["text"]).values():
        assert (baseline["field_separator"], baseline["data_cache"]) == (",", "none")


def test_baselines_have_the_candidates_of_the_target(toy):
    mixture = {
        "same_domain_candidates": True,
        "domains": ["toy", "toy2"],
        "held_out_domains": ["toy2"],
    }
    config = load_config("MISSRec", "Both", (), {**toy, **mixture, "dataset": "Both"})

    for baseline in baseline_configs(config, ["text"]).values():
        assert mixture.items() <= baseline.final_config_dict.items()


def test_new_items_without_a_test_target_are_refused_before_training(toy):
    files = write_file(toy, "MISSRec", {"use_item_id": False}, epochs=1)

    with pytest.raises(
        ConfigError, match=r"--new_items=0.001: 0 of the \d+ items of .* larger share"
    ):
        run_study(settings(files, new_items=0.001), lambda _: None)
    assert not Path("saved").exists()


def test_every_pretraining_keeps_its_place(toy):
    files = write_file(toy, "MISSRec", {}, PRETRAIN, {"use_item_id": False})

    names = [target for target, start in variant_stages(files, {}) if start == "MISSRec"]

    assert names == ["MISSRec, toy (pre-training)", "MISSRec, toy (pre-training) (stage 3)"]


def test_every_domain_that_is_left_out_is_a_target(toy):
    common = {
        **toy,
        "model": "MMM4Rec",
        **TINY_MMM4REC,
        "stages": [PRETRAIN, {"train_stage": "finetune"}],
    }
    del common["dataset"]
    Path("transfer.yaml").write_text(yaml.safe_dump(common))

    stages = variant_stages(["transfer.yaml"], {"leave_one_out_domains": ["toy", "other"]})

    assert list(dict.fromkeys(target for target, _ in stages)) == [
        "MMM4Rec, other (pre-training)", "MMM4Rec, toy with ID", "MMM4Rec, toy",
        "MMM4Rec, toy (pre-training)", "MMM4Rec, other with ID", "MMM4Rec, other",
    ]  # fmt: skip


def test_the_command_line_does_not_train_what_is_tested_untrained(toy):
    files = write_file(toy, "MISSRec", {})
    stages = variant_stages(files, {"epochs": 5, "learning_rate": 0.1})
    epochs = {start: overlay["epochs"] for (_, start), overlay in stages.items()}
    assert epochs == {
        **dict.fromkeys(("MISSRec", "scratch", "frozen", "unfrozen"), 5),
        **dict.fromkeys(("zero-shot", "untrained"), 0),
    }


def test_sizes_and_learning_rates_are_trials_of_what_is_trained_alone(toy):
    files = write_file(toy, "MISSRec", {})

    trials = find_trials(
        settings(files, sizes=[0.25, 1.0], new_items=0.2, learning_rates=[0.1, 0.01])
    )

    def points(start):
        return [(t.condition, t.learning_rate) for t in trials if t.start == start]

    whole, quarter, new = Condition(), Condition(0.25), Condition(1.0, 0.2)
    assert points("MISSRec") == [(whole, None)]
    assert points("zero-shot") == [(whole, None), (new, None)]
    assert points("unfrozen") == points("scratch") == [
        (condition, rate) for condition in (whole, quarter, new) for rate in (0.1, 0.01)
    ]  # fmt: skip
    overlay = next(t.overlay for t in trials if t.start == "scratch" and t.condition == quarter)
    assert (overlay["train_users"], overlay["learning_rate"]) == (0.25, 0.1)
    assert "held_out_items" not in overlay


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_sizes, "0.1,0.5", "add 1, all users"),
        (parse_sizes, "0,1", "give different shares"),
        (parse_sizes, "0.5,0.5,1", "give different shares"),
        (parse_sizes, "1.5", "give different shares"),
        (parse_learning_rates, "fast", "give different numbers > 0"),
        (parse_learning_rates, "-1", "give different numbers > 0"),
    ],
)
def test_lists_of_numbers_that_cannot_be_used_are_refused(parse, text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": {"seed": 1}}, "--seed: give --seeds instead"),
        ({"overrides": {"train_users": 0.1}}, "--train_users: give --sizes instead"),
        ({"overrides": {"epochs": 3}, "steps": 9}, "--epochs: give --steps instead"),
        (
            {"overrides": {"learning_rate": 0.1}, "learning_rates": [0.1]},
            "--learning_rate: give --learning_rates instead",
        ),
        ({"steps": 0}, "--steps=0: give a number >= 1"),
        ({"new_items": 1.0}, "--new_items=1.0: give a share of the items in .0, 1"),
    ],
)
def test_options_that_exclude_each_other_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        refuse_contradictions(settings([], **changes))


def test_a_report_with_sizes_new_items_and_learning_rates(toy, capsys):
    pytest.importorskip("matplotlib")
    (file,) = write_file(toy, "MMM4Rec", {"eval_step": 1})
    command = [
        "transfer-report", f"--config_files={file}", "--seeds=2", "--out=report", "--epochs=2",
        "--sizes=0.25,1", "--new_items=0.25", "--learning_rates=0.01,0.001", "--train_batch_size=50",
    ]  # fmt: skip

    assert main(command) == 0

    printed = capsys.readouterr().out
    page = Path("report/report.html").read_text()
    markdown = Path("report/report.md").read_text()
    numbers = pl.read_csv("report/numbers.csv", infer_schema_length=None)
    starts = ["scratch", "frozen", "unfrozen", "zero-shot", "untrained"]
    starts += ["zero-shot with neighbors", "untrained with neighbors"]
    baselines = ["image neighbors", "popularity", "text neighbors"]
    metrics = numbers.filter(table="metrics")
    assert metrics["start"].to_list() == [*starts, *baselines] * 3
    assert metrics["train_users"].to_list() == [1.0] * 10 + [0.25] * 10 + [1.0] * 10
    assert metrics["held_out_items"].to_list() == [0.0] * 20 + [0.25] * 10
    assert metrics["targets"].to_list()[:20] == [40] * 20
    assert 0 < metrics["targets"][-1] < 40
    assert metrics.filter(pl.col("start").is_in(starts))["seeds"].unique().to_list() == [2]
    # nothing is trained, so the size changes nothing
    untrained = metrics.filter(held_out_items=0.0).filter(pl.col("start").is_in(starts[3:]))
    assert untrained["value"].to_list()[:4] == untrained["value"].to_list()[4:]
    # scratch reaches its own best score with every seed; how often others do is in the table
    own = numbers.filter(
        start="scratch", table="steps to 100% of the best validation score of scratch"
    )
    assert own["value"].null_count() == 0
    assert len(own) == 2 * 3
    for text in (page, markdown):
        assert text.count("starting from the pre-trained model changes NDCG@10 by") == 3
        assert "Leave-one-out: each user" in text
        assert "drawn with a fixed seed, each a part of" in text
        assert text.count("Target and source are the same data.") == 1
    assert "<h2>Learning rates</h2>" in page
    assert page.count("<svg") == 2
    assert set(re.findall(r"https?://([\w.]+)", page)) <= {"www.w3.org"}
    assert "starting from the pre-trained model changes" in printed
    assert (
        "warning: The pre-trained model has been trained on the data of MMM4Rec, toy with ID: its"
        in printed
    )
    assert {path.name for path in Path("report/figures").iterdir()} == {
        f"{kind}_MMM4Rec__toy_with_ID.{form}"
        for kind in ("learning", "sizes")
        for form in ("svg", "pdf")
    }
    assert r"\toprule" in Path("report/tables/starts_MMM4Rec__toy_with_ID.tex").read_text()

    before = {
        path: path.stat().st_mtime_ns for path in Path("saved").iterdir() if path.suffix != ".lock"
    }
    assert main(command) == 0  # finished stages are not repeated
    after = {
        path: path.stat().st_mtime_ns for path in Path("saved").iterdir() if path.suffix != ".lock"
    }
    assert after == before
    assert Path("report/report.html").read_text() == page


def test_small_training_sets_get_as_many_optimizer_steps_and_are_validated_after_every_epoch(toy):
    keys = {"train_batch_size": 20, "epochs": 2, "stopping_step": 3}
    files = write_file(toy, "MISSRec", {"use_item_id": False}, **keys)

    study = run_study(settings(files, sizes=[0.1, 1.0]), lambda _: None)

    # 160 targets in batches of 20, and 16 of them in one
    steps = [d.steps_per_epoch for d in study.descriptions.values()]
    assert steps == [8, 1]
    trained = {
        (o.start, o.condition.train_users): o.config for o in study.outcomes if o.config["epochs"]
    }
    assert trained["scratch", 1.0]["epochs"] == trained["frozen", 1.0]["epochs"] == 2
    assert trained["scratch", 0.1]["epochs"] == trained["unfrozen", 0.1]["epochs"] == 16
    assert trained["scratch", 0.1]["eval_step"] == trained["scratch", 1.0]["eval_step"] == 1
    # patience of as many steps
    assert trained["scratch", 0.1]["stopping_step"] == 24
    assert trained["scratch", 1.0]["stopping_step"] == 3


def test_a_damaged_file_of_ranks_is_computed_again(toy):
    files = write_file(toy, "MISSRec", {"use_item_id": False}, epochs=1)
    study = run_study(settings(files), lambda _: None)
    path = next(Path("saved").glob("*.ranks.parquet"))
    path.write_bytes(b"PAR1")

    again = run_study(settings(files), lambda _: None)

    assert [
        o.ranks.equals(p.ranks) for o, p in zip(again.outcomes, study.outcomes, strict=True)
    ] == [True] * len(study.outcomes)


def test_a_folder_that_cannot_be_made_is_wrong_input(toy, capsys):
    (file,) = write_file(toy, "MISSRec", {})
    Path("taken").write_text("a file")

    command = ["transfer-report", f"--config_files={file}", "--seeds=1", "--out=taken"]
    assert main(command) == 2

    assert "taken': File exists. Give another --out" in capsys.readouterr().err
    assert not Path("saved").exists()


def test_a_list_of_domains_is_a_study_of_every_domain(toy, tmp_path):
    root = tmp_path / "dataset"
    (root / "left").mkdir()
    for path in (root / "toy").iterdir():
        (root / "left" / path.name.replace("toy", "left")).write_bytes(path.read_bytes())
    finetune = {"train_stage": "finetune", "use_item_id": False}
    files = write_file(
        toy, "MISSRec", finetune, epochs=1, dataset=None, leave_one_out_domains=["toy", "left"]
    )

    study = run_study(settings(files), lambda _: None)

    assert [name for name, _ in study.pretrainings] == [
        "MISSRec, left (pre-training)",
        "MISSRec, toy (pre-training)",
    ]
    starts = {(o.target, o.start): o for o in study.outcomes}
    source, _ = study.pretrainings["MISSRec, left (pre-training)", 1]
    unfrozen = starts["MISSRec, toy without ID", "unfrozen"].result
    assert unfrozen.pre_model_path == source.checkpoint
    assert {"toy.inter", "left.inter"} <= study.hashes.keys()
    assert no_transfer_note(study) == ""


def test_a_learning_rate_that_fails_is_shown_and_not_chosen(toy):
    files = write_file(toy, "MISSRec", {"use_item_id": False}, epochs=1)
    lines = []

    study = run_study(settings(files, learning_rates=[1e30, 0.01]), lines.append)

    assert all(scores[1e30] is None for scores in study.searched.values())
    trained = [o for o in study.outcomes if o.config["epochs"]]
    assert {o.config["learning_rate"] for o in trained if o.result} == {0.01}
    assert sum("FAILED" in line for line in lines) == 3


def test_a_stage_that_was_trained_again_is_ranked_again(toy):
    files = write_file(toy, "MISSRec", {"use_item_id": False}, epochs=1)
    study = run_study(settings(files), lambda _: None)
    unfrozen = next(o for o in study.outcomes if o.start == "unfrozen")
    checkpoint = Path(unfrozen.result.checkpoint)
    content = torch.load(checkpoint, weights_only=True)
    for value in content["state_dict"].values():
        if value.is_floating_point():
            value.copy_(torch.randn_like(value))
    save_torch(content, checkpoint)

    again = run_study(settings(files), lambda _: None)

    other = next(o for o in again.outcomes if o.start == "unfrozen")
    assert not other.ranks.equals(unfrozen.ranks)


def test_two_models_that_are_pre_trained_on_the_same_data_are_told_apart(toy):
    stages = [{**PRETRAIN, "model": name} for name in MODELS]
    stages += [
        {
            "train_stage": "finetune",
            "model": name,
            "use_item_id": False,
            **MODELS[name],
            "epochs": 1,
        }
        for name in MODELS
    ]
    stages = [{**MODELS[stage["model"]], **stage, "epochs": 1} for stage in stages]
    Path("transfer.yaml").write_text(yaml.safe_dump({**toy, "model": "MMM4Rec", "stages": stages}))

    study = run_study(settings(["transfer.yaml"]), lambda _: None)

    assert [name for name, _ in study.pretrainings] == [
        f"{name}, toy (pre-training)" for name in MODELS
    ]
    assert no_transfer_note(study).startswith(
        "The pre-trained model has been trained on the data of MMM4Rec, toy without ID, MISSRec, toy"
    )
    assert "All seeds start from the same" not in conditions(study, summarize(study))


def test_a_pre_trained_model_that_is_given_is_known_by_what_it_was_trained_on(toy):
    files = write_file(toy, "MISSRec", {"use_item_id": False}, epochs=1)
    (_, _), (result, _) = next(
        iter(run_study(settings(files), lambda _: None).pretrainings.items())
    )
    finetune = {
        "train_stage": "finetune",
        "use_item_id": False,
        "pre_model_path": result.checkpoint,
    }
    given = {**toy, "model": "MISSRec", **MODELS["MISSRec"], "stages": [finetune], "epochs": 1}
    Path("given.yaml").write_text(yaml.safe_dump(given))

    study = run_study(settings(["given.yaml"]), lambda _: None)

    assert study.pretrainings == {}
    assert "the data of MISSRec, toy without ID: its effect" in no_transfer_note(study)


def test_targets_with_different_splits_are_described_apart(toy):
    finetune = {"train_stage": "finetune", "use_item_id": False}
    other = {**finetune, "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}}}
    files = write_file(toy, "MISSRec", finetune, other, epochs=1)
    study = run_study(settings(files), lambda _: None)

    text = conditions(study, summarize(study))

    assert "MISSRec, toy without ID: Leave-one-out" in text
    assert "MISSRec, toy (stage 3) without ID: Split: {'RS': [0.8, 0.1, 0.1]}." in text


def test_a_validation_metric_of_which_less_is_better_is_refused(toy):
    metric = {"metrics": ["NDCG", "AveragePopularity"], "valid_metric": "AveragePopularity@10"}
    files = write_file(toy, "MISSRec", {}, **metric)

    with pytest.raises(ConfigError, match="valid_metric: AveragePopularity@10, of which a smaller"):
        run_study(settings(files), lambda _: None)
    assert not Path("saved").exists()


def test_options_are_checked_before_data_are_made_and_folders_too(toy, capsys):
    (file,) = write_file(toy, "MISSRec", {}, dataset="demo")

    assert main(["transfer-report", f"--config_files={file}", "--metric=x", "--out=a/b"]) == 2
    assert "metric 'x': write NAME@K" in capsys.readouterr().err
    assert not Path("a").exists()


def test_a_report_replaces_the_parts_of_an_earlier_one(tmp_path):
    (tmp_path / "tables").mkdir()
    for name in ("starts_old.tex", "starts_new.tex", "mine.tex"):
        (tmp_path / "tables" / name).write_text("")

    remove_stale(tmp_path, PARTS, [tmp_path / "tables" / "starts_new.tex"])

    assert {p.name for p in (tmp_path / "tables").iterdir()} == {"starts_new.tex", "mine.tex"}
