import dataclasses
from pathlib import Path

import pytest
import yaml
from tiny import PRETRAIN, TINY, TINY_MMM4REC

from recbole_mm.cli import main
from recbole_mm.config.errors import ConfigError
from recbole_mm.run.result import Result
from recbole_mm.transfer_report.report import convergence_figure, report_table, time_to
from recbole_mm.transfer_report.variants import Variant, run_variants, variant_stages

MODELS = {"MMM4Rec": TINY_MMM4REC, "MISSRec": {**TINY, "n_heads": 2, "interest_ratio": 0.2}}


def write_file(toy, model, *targets):
    stages = [PRETRAIN, *targets]
    common = {**toy, "model": model, **MODELS[model], "stages": stages}
    Path("transfer.yaml").write_text(yaml.safe_dump(common))
    return ["transfer.yaml"]


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
    with pytest.raises(ConfigError, match="no finetune stage starts from a pre-trained model"):
        variant_stages(write_file(toy, "MISSRec", {"pre_model_path": None}), {})


def test_a_second_stage_on_a_target_is_told_apart_by_its_number(toy):
    files = write_file(toy, "MISSRec", {}, {"modalities": ["text"]})

    stages = variant_stages(files, {})

    assert len(stages) == 1 + 5 + 5
    assert stages["MISSRec, toy (stage 3) with ID", "frozen"]["modalities"] == ["text"]
    assert stages["MISSRec, toy (stage 3)", "zero-shot"]["modalities"] == ["text"]
    assert "modalities" not in stages["MISSRec, toy with ID", "frozen"]


def test_every_pretraining_keeps_its_place(toy):
    files = write_file(toy, "MISSRec", {}, PRETRAIN, {"use_item_id": False})

    names = [target for target, start in variant_stages(files, {}) if start == "MISSRec"]

    assert names == ["toy (pre-training)", "toy (pre-training) (stage 3)"]


def test_a_panel_shows_the_starts_of_its_target_alone():
    trained = [
        Variant(f"A, toy{stage} with ID", start, [result(0.1, 0.2)])
        for stage in ("", " (stage 3)")
        for start in ("scratch", "frozen", "unfrozen")
    ]
    tested = [Variant(f"A, toy{stage}", "zero-shot", [result()]) for stage in ("", " (stage 3)")]

    figure = convergence_figure([*trained, *tested])

    starts = ["scratch", "frozen", "unfrozen", "zero-shot"]
    assert [axes.get_title() for axes in figure.axes] == [
        "A, toy with ID",
        "A, toy (stage 3) with ID",
    ]
    assert [[line.get_label() for line in axes.lines] for axes in figure.axes] == [starts] * 2


def test_settings_of_ids_do_not_reach_what_is_tested_without_them(toy):
    rates = {"group_learning_rates": {"item_embeddings.*": 0.01}, "epochs": 1}
    files = write_file(toy, "MMM4Rec", rates)

    variants = run_variants(files, [0], {})

    assert [v.start for v in variants[-2:]] == ["zero-shot", "untrained"]
    overlays = {start: overlay for (_, start), overlay in variant_stages(files, {}).items()}
    assert overlays["scratch"]["group_learning_rates"] == rates["group_learning_rates"]


def test_the_command_line_does_not_train_what_is_tested_untrained(toy):
    files = write_file(toy, "MISSRec", {})
    stages = variant_stages(files, {"epochs": 5, "learning_rate": 0.1})
    epochs = {start: overlay["epochs"] for (_, start), overlay in stages.items()}
    assert epochs == {
        **dict.fromkeys(("MISSRec", "scratch", "frozen", "unfrozen"), 5),
        **dict.fromkeys(("zero-shot", "untrained"), 0),
    }
    (result, *_), *_ = (v.results for v in run_variants(files, [0], {"epochs": 1})[-1:])
    assert result.epochs == 0


@pytest.mark.parametrize("model", MODELS)
def test_the_command_writes_one_table_and_one_figure(toy, model, capsys):
    pytest.importorskip("matplotlib")
    (file,) = write_file(toy, model, {})
    command = ["transfer-report", f"--config_files={file}", "--seeds=2", "--out=report"]
    assert main(command) == 0
    table = Path("report/transfer.md").read_text()
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")]
    starts = ["scratch", "frozen", "unfrozen", "zero-shot", "untrained"]
    assert [row[1] for row in rows[2:]] == [model, *starts]
    assert all("±" in row[4] for row in rows[2:])
    assert Path("report/convergence.png").read_bytes().startswith(b"\x89PNG")
    assert table.strip() in capsys.readouterr().out


def test_a_folder_that_cannot_be_made_is_wrong_input(toy, capsys):
    (file,) = write_file(toy, "MISSRec", {})
    Path("taken").write_text("a file")

    command = ["transfer-report", f"--config_files={file}", "--seeds=1", "--out=taken"]
    assert main(command) == 2

    assert "taken': File exists. Give another --out" in capsys.readouterr().err
    assert not Path("saved").exists()


def result(*scores):
    history = [{"epoch": e, "valid_score": s, "seconds": 2.0 * e} for e, s in enumerate(scores)]
    best = max(scores, default=0.5)
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(Result))
    return Result(
        **unknown
        | {
            "history": history,
            "valid_metric": "ndcg@10",
            "best_valid_score": best,
            "test_result": {"ndcg@10": best / 2},
        }
    )


def test_the_table_says_when_the_best_and_95_percent_of_it_were_reached():
    assert time_to(result(0.1, 0.97, 0.2, 1.0), 1.0) == (4, 6.0)
    assert time_to(result(0.1, 0.97, 0.2, 1.0), 0.95) == (2, 2.0)
    assert time_to(result(), 1.0) is None
    table = report_table(
        [
            Variant("t", "scratch", [result(0.1, 1.0), result(0.2, 0.4)]),
            Variant("t", "zero-shot", [result()]),
        ]
    )
    assert "| t | scratch | ndcg@10 | 2 | 0.3500 ± 0.2121 | 0.7000 ± 0.4243 | 2.0 ± 0.0 |" in table
    assert "| t | zero-shot | ndcg@10 | 1 | 0.2500 | 0.5000 | - | - | - | - |" in table
