import dataclasses

import pytest

from recbole_mm.run.result import START, Result, still_rises
from recbole_mm.run.result_tables import result_table
from recbole_mm.tools.errors import UserError
from recbole_mm.tools.records import write_record

RESULT = Result(
    model="MMM4Rec",
    dataset="toy",
    train_stage=None,
    use_item_id=True,
    pre_model_path=None,
    knows_query_time=False,
    valid_metric="ndcg@10",
    valid_score_bigger=True,
    best_valid_score=0.1,
    best_valid_result={"ndcg@10": 0.1},
    test_result=None,
    best_epoch=0,
    epochs=1,
    history=[{"epoch": 0, "valid_score": 0.1, "seconds": 2.0}],
    seconds=2.0,
    seconds_per_epoch=1.0,
    seconds_per_validation=1,
    n_parameters=10,
    peak_memory=1,
    peak_gpu_memory=0,
    checkpoint="saved/a.pth",
)


def test_a_result_that_is_saved_is_read_back_equal(tmp_path):
    RESULT.save(tmp_path / "result.json")

    assert Result.load(tmp_path / "result.json") == RESULT


def test_the_table_of_a_run_without_targets_has_no_columns_of_metrics():
    without = dataclasses.replace(RESULT, best_valid_score=None, best_valid_result=None)

    assert "valid     test" in result_table(RESULT)
    assert result_table(without).splitlines()[1] == "no validation and no test targets"


def test_a_result_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RESULT.model = "MISSRec"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "[" * 99999, '{"model": "MMM4Rec"}', '{"a": 1}', "3"]
)
def test_a_damaged_result_is_an_error_that_names_the_file(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)

    with pytest.raises(UserError, match="result.json"):
        Result.load(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("epochs", "one", "epochs is 'one'; it must be int"),
        ("epochs", True, "epochs is True; it must be int"),
        ("seconds", None, "seconds is None; it must be float"),
        ("best_valid_result", {"ndcg@10": "0.1"}, "it must be dict.str, float. . None"),
        ("history", [1], "history is .1.; it must be list"),
        ("checkpoint", 3, "checkpoint is 3; it must be str . None"),
    ],
)
def test_a_value_of_another_type_is_damage(tmp_path, name, value, words):
    write_record(tmp_path / "result.json", {**RESULT.to_dict(), name: value})

    with pytest.raises(UserError, match=f"result.json: .*{words}"):
        Result.load(tmp_path / "result.json")


@pytest.mark.parametrize(
    ("validated", "best", "epochs", "expected"),
    [
        ([1, 3, 5], 5, 7, True),  # eval_step: 2 of 7 epochs
        ([1, 3, 5], 3, 7, False),
        ([1, 3, 5], 5, 6, False),  # ended before the seventh
        ([START, 0, 1], START, 7, False),
        ([], None, 7, False),
    ],
)
def test_a_curve_still_rises_if_its_last_validation_is_the_best(validated, best, epochs, expected):
    history = [{"epoch": epoch} for epoch in validated]

    assert still_rises(history, best, epochs, most_epochs=7) == expected
